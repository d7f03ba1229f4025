"use strict";
// The list of cases: sorted, filtered, and of one structure or all. Without this script the page shows all of it.
(() => {
  const byId = (id) => document.getElementById(id);
  document.querySelectorAll(".needs-script").forEach((part) => { part.hidden = false; });

  byId("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  const list = byId("list");
  if (!list) return;
  const rows = [...list.tBodies[0].rows];
  const numbers = JSON.parse(byId("numbers").textContent);
  const digits = { volume: 2, dice: 3, hd95: 2, assd: 2, components: 0 };
  const whole = new Map(rows.map((row) => [row, [...row.cells].map((cell) => [cell.dataset.value, cell.textContent])]));

  const drawBars = () => {
    const bars = rows.map((row) => row.querySelector(".bar"));
    const highest = Math.max(...bars.map((bar) => Number(bar.dataset.value)), 1e-9);
    bars.forEach((bar) => bar.style.setProperty("--share", Number(bar.dataset.value) / highest));
  };

  const written = (key, value) => {
    if (value === undefined) return "–";
    return key === "volume" && value > 0 && value < 0.005 ? "<0.01" : value.toFixed(digits[key]);
  };

  byId("structure").addEventListener("change", (event) => {
    for (const row of rows) {
      [...row.cells].forEach((cell, place) => {
        const key = cell.dataset.key;
        if (!key) return;
        [cell.dataset.value, cell.textContent] = whole.get(row)[place];
        if (event.target.value) {
          const value = (numbers[row.dataset.case][event.target.value] || {})[key];
          cell.dataset.value = value === undefined ? "" : value;
          cell.textContent = written(key, value);
        }
      });
    }
    drawBars();
    sort();
  });

  let column = 0;
  let falling = false;
  const valueOf = (row) => {
    const cell = row.cells[column];
    return column === 0 ? cell.textContent : cell.dataset.value === "" ? -1 : Number(cell.dataset.value);
  };
  const sort = () => {
    const compare = (one, other) => column === 0
      ? one.localeCompare(other, undefined, { numeric: true })
      : one - other;
    rows.sort((one, other) => compare(valueOf(one), valueOf(other)) * (falling ? -1 : 1));
    list.tBodies[0].append(...rows);
    [...list.tHead.rows[0].cells].forEach((heading, place) => {
      if (place === column) heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    });
  };
  [...list.tHead.rows[0].cells].forEach((heading, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      falling = place === column ? !falling : place > 0;
      column = place;
      sort();
    });
  });

  const filter = () => {
    const wanted = byId("find").value.trim().toLocaleLowerCase();
    let shown = 0;
    for (const row of rows) {
      const named = row.cells[0].textContent.toLocaleLowerCase().includes(wanted);
      const fits = named && (!byId("noticed").checked || Number(row.dataset.notices) > 0);
      row.hidden = !fits;
      byId(`case-${row.dataset.case}`).hidden = !fits;
      shown += fits ? 1 : 0;
    }
    byId("count").textContent = shown === rows.length ? "" : `${shown} of ${rows.length}`;
  };
  byId("find").addEventListener("input", filter);
  byId("noticed").addEventListener("change", filter);
  drawBars();
})();
