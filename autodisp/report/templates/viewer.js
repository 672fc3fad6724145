"use strict";
(() => {
  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const slider = document.getElementById("viewer-slider");
  const label = document.getElementById("viewer-label");
  const play = document.getElementById("viewer-play");
  const chart = document.querySelector("#viewer-chart svg");
  const stages = [...document.querySelectorAll("#viewer-stage [data-kind]")];
  const markers = {};
  let timer = null;

  const element = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    chart.append(made);
    return made;
  };
  if (chart) {
    const style = "stroke: var(--red); fill: none; stroke-width: 1";
    markers.line = element("line", { style, id: "viewer-line" });
    markers.point = element("circle", { r: 4.5, style: "fill: var(--red)", id: "viewer-point" });
  }
  // As high as the highest cell of that kind, so that the page stands still while the slider moves.
  for (const stage of stages) {
    const used = new Set(data.frames.map((frame) => frame.cells[stage.dataset.kind]));
    const heights = [...used].filter((place) => place !== undefined).map((place) => {
      const { width, height } = data.drawings[place];
      return height * Math.min(1, Math.max(0.7, (stage.clientWidth || width) / width));
    });
    stage.style.minHeight = `${Math.ceil(Math.max(0, ...heights))}px`;
  }

  const show = (place) => {
    const frame = data.frames[place];
    slider.value = place;
    slider.setAttribute("aria-valuetext", frame.label);
    label.textContent = frame.label;
    for (const stage of stages) {
      const number = frame.cells[stage.dataset.kind];
      if (String(number) === stage.dataset.shown) continue;
      stage.dataset.shown = String(number);
      const drawing = data.drawings[number];
      stage.innerHTML = drawing ? drawing.svg : "";
      if (drawing) stage.firstElementChild.style.setProperty("--w", `${drawing.width}px`);
    }
    if (!chart) return;
    const { x, y, top, bottom } = frame;
    for (const [key, value] of Object.entries({ x1: x, x2: x, y1: top, y2: bottom })) markers.line.setAttribute(key, value);
    markers.point.style.display = y === undefined ? "none" : "";
    if (y !== undefined) {
      markers.point.setAttribute("cx", x);
      markers.point.setAttribute("cy", y);
    }
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    play.textContent = "▶";
    play.setAttribute("aria-label", "play");
  };
  const go = (place) => {
    stop();
    show(Math.max(0, Math.min(data.frames.length - 1, place)));
  };
  slider.addEventListener("input", () => go(Number(slider.value)));
  document.getElementById("viewer-back").addEventListener("click", () => go(Number(slider.value) - 1));
  document.getElementById("viewer-on").addEventListener("click", () => go(Number(slider.value) + 1));
  play.addEventListener("click", () => {
    if (timer) return stop();
    let place = Number(slider.value);
    if (place >= data.frames.length - 1) place = -1;
    play.textContent = "❚❚";
    play.setAttribute("aria-label", "pause");
    timer = setInterval(() => {
      place += 1;
      show(place);
      if (place >= data.frames.length - 1) stop();
    }, 300);
    return undefined;
  });
  show(Number(slider.value));
})();
