"""Parts that plug into any 3D network; none of them knows a bundle."""
