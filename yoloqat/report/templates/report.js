(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // The colours of plots are those of the page.
  function look(width) {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const ink = colour("ink"), muted = colour("muted"), accent = colour("accent"), second = colour("second");
    return {
      background: "transparent",
      font: "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif",
      view: { stroke: null },
      axis: {
        labelColor: ink, titleColor: muted, gridColor: colour("grid"), domainColor: colour("line"), tickColor: colour("line"),
        labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelLimit: Math.max(90, Math.round(width * 0.34)),
      },
      axisX: { labelOverlap: true },
      bar: { fill: accent },
      line: { stroke: accent, strokeWidth: 2 },
      mark: { color: accent },
      text: { fill: muted },
      style: {
        interval: { color: ink, stroke: ink, strokeWidth: 1.3 },
        zero: { color: muted, stroke: muted },
        total: { color: second, stroke: second },
        "total-point": { color: second, fill: second, stroke: second },
        path: { color: muted, stroke: muted, strokeWidth: 1, strokeDash: [4, 3] },
        level: { color: second, stroke: second, strokeDash: [5, 4] },
        "level-name": { color: second, fill: second, fontSize: 12 },
      },
    };
  }

  async function draw(figure) {
    const plot = figure.querySelector(".plot");
    // Vega labels the plot by its description, and "Vega visualization" where there is none
    const spec = { description: plot.ariaLabel, ...JSON.parse(figure.querySelector("script").textContent) };
    const options = {
      actions: false, renderer: "svg", config: look(plot.clientWidth),
      tooltip: {
        theme: dark.matches ? "dark" : "light",
        formatTooltip: (value) => histograms.tooltip(plot, typeof value === "object" ? value : { value }),
      },
    };
    try {
      await vegaEmbed(plot, spec, options);
    } catch (error) {
      plot.textContent = "This plot could not be drawn; its numbers are in the tables.";
      console.error(error);
    }
  }

  async function drawAll() {
    for (const figure of document.querySelectorAll("figure.chart")) await draw(figure);
    document.documentElement.dataset.drawn = "all";
  }

  // "+0.0012", "31.2 %", "[+0.1, +0.2]" by their first number; "-" is no number and stays below.
  function numberIn(text) {
    const found = /^\[?([+-]?\d[\d.]*(?:e[+-]?\d+)?)/i.exec(text.trim());
    return found ? Number(found[1]) : null;
  }

  function sortBy(table, column, ascending) {
    histograms.close(table);
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row) => ({ row, text: row.cells[column].textContent }));
    const words = table.tHead.rows[0].cells[column].classList.contains("words");
    const sign = ascending ? 1 : -1;
    rows.sort((a, b) => {
      if (words) return sign * a.text.localeCompare(b.text, undefined, { numeric: true });
      const [x, y] = [numberIn(a.text), numberIn(b.text)];
      return x === null || y === null ? (x === null) - (y === null) : sign * (x - y);
    });
    body.append(...rows.map(({ row }) => row));
  }

  function makeSortable(table) {
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent || "remark";
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const words = head.classList.contains("words");
        const ascending = head.ariaSort ? head.ariaSort !== "ascending" : words;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        sortBy(table, column, ascending);
      });
    });
  }

  for (const table of document.querySelectorAll("figure.table table")) histograms.makeOpening(table);
  for (const table of document.querySelectorAll("table")) if (table.tBodies[0].rows.length > 2) makeSortable(table);
  dark.addEventListener("change", drawAll);
  drawAll();
})();
