// Draws training curves and histograms with uPlot. A run keeps its arm's colour and dashes; the keys above switch arms.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const classes = JSON.parse(document.getElementById("arm-classes").textContent);
  // Seven dashes to eight colours: no two of the first fifty arms have both alike.
  const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [5, 2], [12, 5], [4, 4, 1, 4]];
  const CURVES = [
    ["loss", "Loss of the batches, noise on", "nats"],
    ["alpha", "Alpha of the noise", ""],
    ["learning_rate", "Learning rate", ""],
    ["gradient_norm", "Gradient norm before clipping", ""],
  ];
  const charts = [];
  const hidden = new Set();

  const style = getComputedStyle(document.documentElement);
  const colour = (arm) => style.getPropertyValue("--c-" + classes[arm].replace("arm-", "")).trim();
  const variable = (name) => style.getPropertyValue(name).trim();
  const dash = (arm) => DASHES[data.arms.indexOf(arm) % DASHES.length];
  const short = (number) => {
    if (number === null || number === undefined) return "";
    const rounded = Number(number.toPrecision(4));
    return rounded !== 0 && Math.abs(rounded) < 0.001 ? rounded.toExponential() : String(rounded);
  };

  // Pixels of what would be so many at the usual size of letters: the page's letters grow with the screen.
  const grown = (pixels) => Math.round(pixels * Math.max(1, Number.parseFloat(style.fontSize) / 16));

  function axes(unit) {
    const font = `${grown(12)}px ${variable("--sans")}`;
    const axis = { stroke: () => variable("--muted"), grid: { stroke: () => variable("--line"), width: 1 }, ticks: { stroke: () => variable("--line"), width: 1 }, font, size: grown(50) };
    return [{ ...axis, values: (_, splits) => splits.map(short) }, { ...axis, size: grown(62), label: unit || undefined, labelSize: grown(16), labelFont: font, values: (_, splits) => splits.map(short) }];
  }

  // Names the line under the pointer.
  function tip(box) {
    const element = document.createElement("div");
    element.className = "tip";
    element.hidden = true;
    let focused = null;
    return {
      hooks: {
        ready: (chart) => chart.over.append(element),
        setSeries: (_, index) => { focused = index; },
        setCursor: (chart) => {
          const { left, top, idx } = chart.cursor;
          const y = focused ? chart.data[focused][idx] : null;
          element.hidden = left < 0 || !focused || y === null || y === undefined;
          if (element.hidden) return;
          element.textContent = `${chart.series[focused].label}: ${short(y)} at ${box.at(chart, idx)}`;
          const right = left > chart.over.clientWidth / 2;
          element.style.left = right ? "" : `${left + 12}px`;
          element.style.right = right ? `${chart.over.clientWidth - left + 12}px` : "";
          element.style.top = `${Math.max(0, top - 30)}px`;
        },
      },
    };
  }

  function draw(parent, { title, unit, table, series, at, group }) {
    const box = document.createElement("div");
    box.className = "chart";
    const heading = document.createElement("h3");
    heading.textContent = title;
    const figure = document.createElement("div");
    figure.setAttribute("role", "img");
    figure.setAttribute("aria-label", `${title}: ${series.map((line) => line.label).join(", ")}`);
    box.append(heading, figure);
    parent.append(box);
    const height = () => Math.round(Math.min(grown(420), Math.max(200, figure.clientWidth * 0.5)));
    const lines = series.map(({ arm, label, paths, fill }) => ({
      label, paths, spanGaps: true, width: 1.75, dash: dash(arm), stroke: () => colour(arm), fill, points: { show: false }, show: !hidden.has(arm),
    }));
    const chart = new uPlot({
      width: figure.clientWidth, height: height(), legend: { show: false }, axes: axes(unit), series: [{}, ...lines],
      scales: { x: { time: false } }, focus: { alpha: 0.25 }, plugins: [tip({ at })],
      cursor: { focus: { prox: 24 }, sync: group && { key: group, setSeries: false }, points: { size: 6 } },
    }, table, figure);
    new ResizeObserver(() => chart.setSize({ width: figure.clientWidth, height: height() })).observe(figure);
    charts.push({ chart, series });
  }

  function curves(parent) {
    const shown = CURVES.filter(([name]) => data.runs.some((run) => run.curves[name].some((value) => value !== 0)));
    for (const [name, title, unit] of shown) {
      const table = uPlot.join(data.runs.map((run) => [run.curves.step, run.curves[name]]));
      const series = data.runs.map((run) => ({ arm: run.arm, label: run.name }));
      draw(parent, { title, unit, table, series, group: "curves", at: (chart, idx) => `step ${chart.data[0][idx]}` });
    }
  }

  function histograms(parent) {
    for (const { title, unit, column, edges, arms } of data.histograms) {
      const table = [edges, ...arms.map((arm) => [...arm.shares.map((share) => 100 * share), null])];
      const series = arms.map(({ arm, n }) => ({ arm, label: `${arm} (n = ${n})`, paths: uPlot.paths.stepped({ align: 1 }) }));
      const bin = (_, idx) => `${short(edges[idx])} to ${short(edges[Math.min(idx + 1, edges.length - 1)])} ${unit}`;
      draw(parent, { title: column ? `${column}: ${title}` : title, unit: "%", table, series, at: bin });
    }
  }

  function keys(parent, arms) {
    for (const arm of arms) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = classes[arm];
      button.setAttribute("aria-pressed", "true");
      button.dataset.arm = arm;
      const line = `<svg viewBox="0 0 30 8" aria-hidden="true"><line x1="0" x2="30" y1="4" y2="4" stroke-dasharray="${dash(arm).join(" ")}"/></svg>`;
      button.innerHTML = line;
      button.append(arm);
      button.addEventListener("click", () => toggle(arm));
      parent.append(button);
    }
  }

  function toggle(arm) {
    if (!hidden.delete(arm)) hidden.add(arm);
    for (const button of document.querySelectorAll(".keys button")) {
      if (button.dataset.arm === arm) button.setAttribute("aria-pressed", String(!hidden.has(arm)));
    }
    for (const { chart, series } of charts) {
      series.forEach((line, at) => { if (line.arm === arm) chart.setSeries(at + 1, { show: !hidden.has(arm) }); });
    }
  }

  // Charts are drawn when they come near the view, so that a page of many runs opens at once; for paper all are.
  function prepare(name, armsOf, drawAll) {
    const parent = document.querySelector(`[data-charts="${name}"]`);
    if (!parent) return;
    keys(document.querySelector(`[data-keys="${name}"]`), data.arms.filter((arm) => armsOf.has(arm)));
    const begin = () => {
      watch.disconnect();
      if (!parent.hasChildNodes()) drawAll(parent);
    };
    const watch = new IntersectionObserver((entries) => { if (entries.some(({ isIntersecting }) => isIntersecting)) begin(); }, { rootMargin: "800px" });
    watch.observe(parent);
    addEventListener("beforeprint", begin);
  }

  prepare("curves", new Set(data.runs.map(({ arm }) => arm)), curves);
  prepare("histograms", new Set(data.histograms.flatMap(({ arms }) => arms.map(({ arm }) => arm))), histograms);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach(({ chart }) => chart.redraw(false, true)));
})();
