"use strict";
(() => {
  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const slider = document.getElementById("viewer-slider");
  const label = document.getElementById("viewer-label");
  const play = document.getElementById("viewer-play");
  const line = document.getElementById("viewer-line");
  const point = document.getElementById("viewer-point");
  const stages = [...document.querySelectorAll("#viewer-stage [data-kind]")];
  const images = data.drawings.map(({ uri, title, width }) => {
    const image = new Image();
    image.className = "picture";
    image.alt = title;
    image.src = uri;
    image.style.setProperty("--w", `${width}px`);
    return image;
  });
  let timer = null;

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
      stage.replaceChildren(...(number === undefined ? [] : [images[number]]));
    }
    if (!line) return;
    const { x, y, top, bottom } = frame;
    line.style.left = point.style.left = `${x}%`;
    line.style.top = `${top}%`;
    line.style.height = `${bottom - top}%`;
    point.style.display = y === undefined ? "none" : "";
    point.style.top = `${y}%`;
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
