"use strict";
// The viewer: NiiVue is started, and a case's volumes are unpacked, when its button is pressed for the first time.
(() => {
  const byId = (id) => document.getElementById(id);
  const able = Boolean(document.createElement("canvas").getContext("webgl2")) && "DecompressionStream" in window;
  const buttons = document.querySelectorAll("button.open");
  if (!able) {
    buttons.forEach((button) => {
      const told = document.createElement("p");
      told.className = "muted no-viewer";
      told.textContent = "This browser has no WebGL 2, which the viewer needs.";
      button.replaceWith(told);
    });
    return;
  }

  const dialog = byId("viewer");
  let started = null;
  let shown = null;

  const start = async () => {
    const packed = Uint8Array.from(atob(byId("niivue").textContent), (letter) => letter.charCodeAt(0));
    const code = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(code).text();
    document.head.append(script);
    const viewer = new niivue.Niivue({
      backColor: [0, 0, 0, 1], crosshairColor: [1, 1, 1, 0.7], crosshairWidth: 0.25,
      crosshairWidthUnit: "percent", crosshairGap: 6, fontColor: [0.85, 0.87, 0.9, 1],
      isRadiologicalConvention: true, sagittalNoseLeft: true, show3Dcrosshair: true, dragAndDropEnabled: false,
      multiplanarShowRender: niivue.SHOW_RENDER.ALWAYS, multiplanarLayout: niivue.MULTIPLANAR_TYPE.GRID,
      isSliceMM: false, loadingText: "", logLevel: "error",
    });
    await viewer.attachToCanvas(byId("canvas"));
    viewer.onLocationChange = tell;
    return viewer;
  };

  const channels = (colours) => [1, 3, 5].map((start) => colours.map((hex) => parseInt(hex.slice(start, start + 2), 16)));

  const labelColours = (structures) => {
    const [R, G, B] = channels(structures.map((one) => one.colour));
    return {
      R: [0, ...R], G: [0, ...G], B: [0, ...B], A: [0, ...R.map(() => 255)],
      I: [0, ...structures.map((_, place) => place + 1)], labels: ["", ...structures.map((one) => one.name)],
    };
  };

  const load = async (viewer, data) => {
    while (viewer.volumes.length) viewer.removeVolume(viewer.volumes[0]);
    const layers = [];
    const add = async (name, options) => {
      if (!data[name]) return null;
      const volume = await niivue.NVImage.loadFromBase64({ base64: data[name], name: `${name}.nii.gz`, ...options });
      layers.push(name);
      return volume;
    };
    const image = await add("image", { colormap: "gray", cal_min: 0, cal_max: 255 });
    if (image) viewer.addVolume(image);
    for (const name of ["prediction", "reference"]) {
      const labels = await add(name, { opacity: 0 });
      if (!labels) continue;
      labels.setColormapLabel(labelColours(data.structures));
      viewer.addVolume(labels);
    }
    const map = await add("uncertainty", { colormap: "inferno", cal_min: 8, cal_max: 255, opacity: 0 });
    if (map) viewer.addVolume(map);
    return layers;
  };

  const drawLayers = () => {
    const opacity = Number(byId("opacity").value);
    byId("layers").querySelectorAll("input").forEach((box) => {
      shown.viewer.setOpacity(shown.layers.indexOf(box.value), box.checked ? opacity : 0);
    });
  };

  const listLayers = () => {
    byId("layers").querySelectorAll("label").forEach((label) => label.remove());
    for (const name of shown.layers.filter((one) => one !== "image")) {
      const label = document.createElement("label");
      const box = document.createElement("input");
      Object.assign(box, { type: "checkbox", value: name, checked: name === "prediction" });
      box.addEventListener("change", drawLayers);
      label.append(box, name);
      byId("layers").append(label);
    }
  };

  const listStructures = () => {
    byId("legend").replaceChildren(...shown.data.structures.map((one) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = one.colour;
      button.type = "button";
      button.append(swatch, one.name);
      button.disabled = !one.focus;
      button.addEventListener("click", () => goTo(one.focus));
      item.append(button);
      return item;
    }));
  };

  const goTo = (millimetres) => {
    const viewer = shown.viewer;
    viewer.scene.crosshairPos = viewer.mm2frac(millimetres);
    viewer.createOnLocationChange();
    viewer.drawScene();
  };

  const tell = (location) => {
    if (!shown) return;
    const sides = ["RL", "AP", "SI"].map((pair, axis) => {
      const value = location.mm[axis];
      return `${pair[value < 0 ? 1 : 0]} ${Math.abs(value).toFixed(0)}`;
    });
    const parts = [`${sides.join(", ")} mm`];
    shown.layers.forEach((name, place) => {
      const value = location.values[place] ? location.values[place].value : 0;
      if (name === "prediction" || name === "reference") {
        const structure = shown.data.structures[Math.round(value) - 1];
        parts.push(`${name}: ${structure ? structure.name : "none"}`);
      } else if (name === "uncertainty") {
        parts.push(`uncertainty ${((value / 255) * shown.data.uncertainty_highest).toPrecision(2)}`);
      }
    });
    byId("cursor").textContent = parts.join(" · ");
  };

  const noteOn = (data) => {
    const reduced = data.factors.some((factor) => factor > 1);
    const size = data.spacing.map((one) => one.toFixed(1)).join(" × ");
    const grid = reduced ? `Reduced here to voxels of ${size} mm. ` : "";
    return `${grid}Scroll: next slice. Drag with the right button: contrast.`;
  };

  const open = async (button) => {
    const data = JSON.parse(byId(`volumes-${button.dataset.case}`).textContent);
    byId("viewer-title").textContent = data.case;
    byId("cursor").textContent = "opening …";
    dialog.dataset.state = "opening";
    dialog.showModal();
    started ??= start();
    const viewer = await started;
    shown = { viewer, data, layers: await load(viewer, data) };
    byId("viewer-note").textContent = noteOn(data);
    listLayers();
    listStructures();
    viewer.setSliceType(Number(byId("view").value));
    drawLayers();
    const [largest] = data.structures.filter((one) => one.focus).sort((one, other) => other.volume - one.volume);
    if (largest) goTo(largest.focus);
    dialog.dataset.state = "open";
  };

  buttons.forEach((button) => button.addEventListener("click", () => open(button).catch((error) => {
    byId("cursor").textContent = `The viewer cannot show this case: ${error.message}`;
    dialog.dataset.state = "failed";
  })));
  byId("opacity").addEventListener("input", drawLayers);
  byId("view").addEventListener("change", (event) => shown && shown.viewer.setSliceType(Number(event.target.value)));
  byId("close").addEventListener("click", () => dialog.close());
})();
