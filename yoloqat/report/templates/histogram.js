"use strict";
// Histograms of quantizers, by the items that hold them: data is {quantizers: [...], items: {name: [index, ...]}}.
const histograms = (() => {
  const MOST_IN_TIP = 3, WIDTH = 240, HEIGHT = 74, LEAST = -6;  // shares from 1e-6 up, on a logarithmic axis

  function held(element, name) {
    const data = (element.closest("article") ?? document.querySelector("main")).querySelector("script.histograms");
    const found = data ? (data.parsed ??= JSON.parse(data.textContent)) : { items: {} };
    return Object.hasOwn(found.items, name) ? found.items[name].map((index) => found.quantizers[index]) : [];
  }

  function part(parent, tag, attributes) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    parent.append(made);
    return made;
  }

  function drawing({ shares, end, clip }) {
    const whole = document.createElement("span"), right = Math.max(end, clip) * 1.02 || 1;
    const svg = part(whole, "svg", { class: "histogram", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
    const x = (value) => ((value / right) * WIDTH).toFixed(2);
    shares.forEach((share, bin) => {
      const height = HEIGHT * Math.max(0, 1 - Math.log10(Math.max(share, 1e-12)) / LEAST);
      const left = (bin * end) / shares.length, width = x(end / shares.length);
      if (height > 0) {
        const kind = left >= clip ? "bin clipped" : "bin";
        part(svg, "rect", { class: kind, x: x(left), y: (HEIGHT - height).toFixed(2), width, height: height.toFixed(2) });
      }
    });
    part(svg, "line", { class: "clip", x1: x(clip), x2: x(clip), y1: 0, y2: HEIGHT });
    part(svg, "line", { class: "ground", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT });
    return svg;
  }

  function figure(quantizer) {
    const made = document.createElement("span"), name = document.createElement("b"), told = document.createElement("small");
    made.className = "quantizer";
    name.textContent = quantizer.name;
    told.textContent = quantizer.about;
    const svg = drawing(quantizer);
    svg.setAttribute("aria-label", `Histogram of ${quantizer.name}: ${quantizer.about}`);
    made.append(name, svg, told);
    return made;
  }

  // The words of a tooltip as Vega writes them, and below them the histograms of the item that they name.
  function tooltip(plot, value) {
    const made = document.createElement("div"), table = document.createElement("table");
    for (const [key, text] of Object.entries(value)) {
      const row = table.insertRow();
      row.insertCell().textContent = key;
      row.insertCell().textContent = text;
      row.cells[0].className = "key";
      row.cells[1].className = "value";
    }
    const found = held(plot, value.name);
    made.append(table, ...found.slice(0, MOST_IN_TIP).map(figure));
    if (found.length > MOST_IN_TIP) made.append(`and ${found.length - MOST_IN_TIP} more: click the name in the table`);
    return made.innerHTML;
  }

  function close(table) {
    for (const row of table.querySelectorAll("tr.detail")) row.remove();
    for (const button of table.querySelectorAll("button.more")) button.setAttribute("aria-expanded", "false");
  }

  // A click or a tap on the name of an item opens its histograms below its row.
  function makeOpening(table) {
    for (const row of table.tBodies[0].rows) {
      const head = row.cells[0], found = held(table, head.textContent);
      if (!found.length) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "more";
      button.textContent = head.textContent;
      button.setAttribute("aria-expanded", "false");
      button.addEventListener("click", () => {
        const open = button.getAttribute("aria-expanded") === "true";
        button.setAttribute("aria-expanded", String(!open));
        if (open) {
          row.nextElementSibling.remove();
          return;
        }
        const detail = document.createElement("tr"), cell = document.createElement("td"), all = document.createElement("div");
        detail.className = "detail";
        cell.colSpan = row.cells.length;
        all.className = "quantizers";
        all.append(...found.map(figure));
        cell.append(all);
        detail.append(cell);
        row.after(detail);
      });
      head.replaceChildren(button);
    }
  }

  return { tooltip, makeOpening, close };
})();
