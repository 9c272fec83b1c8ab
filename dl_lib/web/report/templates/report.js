"use strict";
// Selection of an image, hover texts, and arrow keys in the confusion matrices.

const tooltip = document.getElementById("tooltip");

class Explorer {
  constructor(root) {
    this.root = root;
    this.values = JSON.parse(document.getElementById(root.dataset.values).textContent);
    this.select = root.querySelector("select.image");
    this.points = [...root.querySelectorAll(".plot circle")];
    this.routes = [...root.querySelectorAll(".route")].map((figure) => new Route(figure, this.values));
    this.select.addEventListener("change", () => this.show(this.select.value));
    for (const point of this.points) {
      point.addEventListener("click", () => this.show(point.dataset.image));
      point.addEventListener("pointerenter", () => this.showTooltip(point));
      point.addEventListener("pointerleave", () => (tooltip.hidden = true));
    }
    this.buttons = (this.values.thumbnails ?? []).map((address, index) => this.addThumbnail(address, String(index)));
    this.show("");
  }

  addThumbnail(address, index) {
    if (!address) return null;
    const button = document.createElement("button");
    button.type = "button";
    button.append(thumbnail(address, this.values.images[index]));
    button.title = this.values.images[index];
    button.addEventListener("click", () => this.show(index === this.select.value ? "" : index));
    this.root.querySelector(".thumbnails").append(button);
    return button;
  }

  showTooltip(point) {
    const address = this.values.thumbnails?.[point.dataset.image];
    tooltip.replaceChildren(...(address ? [thumbnail(address, "")] : []), point.dataset.text);
    const { left, bottom } = point.getBoundingClientRect();
    tooltip.hidden = false;
    tooltip.style.left = `${Math.min(left, document.documentElement.clientWidth - tooltip.offsetWidth - 8) + scrollX}px`;
    tooltip.style.top = `${bottom + 8 + scrollY}px`;
  }

  show(index) {
    this.select.value = index;
    for (const point of this.points) point.classList.toggle("selected", point.dataset.image === index);
    this.buttons.forEach((button, number) => button?.setAttribute("aria-pressed", String(number) === index));
    for (const route of this.routes) route.show(index);
    const texts = this.values.runs.map((run) => `${run.name}: ${run.texts[index]}`);
    this.root.querySelector(".selected").textContent = index === "" ? "" : texts.join("; ");
  }
}

class Route {
  constructor(figure, values) {
    this.values = values;
    this.run = values.runs.find((run) => run.name === figure.dataset.run);
    this.shown = figure.querySelector(".shown");
    this.lines = [...figure.querySelectorAll("line[data-edge]")];
    this.order = new Map(this.run.edges.map((name, column) => [name, column]));
    const sources = new Set(this.lines.map((line) => line.dataset.source));
    this.outputs = new Set(this.lines.map((line) => line.dataset.target).filter((target) => !sources.has(target)));
    this.nodes = [...figure.querySelectorAll("[data-node]")];
    const status = figure.parentElement.querySelector(".edge");
    for (const line of this.lines) {
      line.addEventListener("pointerenter", () => (status.textContent = line.querySelector("title").textContent));
    }
  }

  show(index) {
    const gates = index === "" ? this.run.mean : this.run.gates[index];
    this.shown.textContent =
      index === "" ? "mean gates of all images" : gates ? `route of ${this.values.images[index]}` : "this image was not evaluated";
    const strongest = {};
    for (const line of this.lines) {
      const { edge, source, target } = line.dataset;
      const gate = gates?.[this.order.get(edge)] ?? 0;
      line.style.setProperty("--gate", gate);
      line.setAttribute("class", gate > 0 ? "open" : "closed");
      line.querySelector("title").textContent = `${edge}: gate ${gate.toPrecision(3)}\n${this.run.notes[this.order.get(edge)]}`;
      const nodes = this.outputs.has(target) ? [source, target] : [source];
      for (const name of nodes) strongest[name] = Math.max(strongest[name] ?? 0, gate);
    }
    for (const node of this.nodes) node.setAttribute("class", strongest[node.dataset.node] > 0 ? "open" : "closed");
  }
}

function thumbnail(address, alt) {
  const image = new Image();
  image.src = address;
  image.alt = alt;
  return image;
}

function startConfusion(table) {
  const status = table.closest("div.scroll").parentElement.querySelector(".cell");
  const rows = [...table.tBodies[0].rows].map((row) => [...row.querySelectorAll("td")]);
  const show = (cell) => (status.textContent = cell.getAttribute("aria-label"));
  if (rows.length) rows[0][0].tabIndex = 0;
  rows.forEach((row, i) =>
    row.forEach((cell, j) => {
      cell.addEventListener("pointerenter", () => show(cell));
      cell.addEventListener("focus", () => show(cell));
      cell.addEventListener("keydown", (event) => {
        const [di, dj] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
        const next = rows[i + di]?.[j + dj];
        if (!next || next === cell) return;
        event.preventDefault();
        cell.tabIndex = -1;
        next.tabIndex = 0;
        next.focus();
      });
    }),
  );
}

for (const root of document.querySelectorAll(".explorer")) new Explorer(root);
for (const table of document.querySelectorAll(".confusion")) startConfusion(table);
