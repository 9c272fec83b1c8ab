"use strict";
// Sends the chosen photo to the server and shows its prediction; the slider repeats it at another gate threshold.

const element = (id) => document.getElementById(id);
let photo = null; // File
let defaultThreshold = null;
let pending = null; // AbortController of the request under way

async function fetchJson(url, options) {
  const response = await fetch(url, options);
  const value = await response.json();
  if (!response.ok) throw new Error(value.error);
  return value;
}

async function predict() {
  if (!photo) return;
  pending?.abort();
  const request = (pending = new AbortController());
  const query = defaultThreshold === null ? "" : `?threshold=${element("threshold").value}`;
  element("status").className = "";
  element("status").textContent = `Predicting ${photo.name} …`;
  try {
    const result = await fetchJson(`predict${query}`, { method: "POST", body: photo, signal: request.signal });
    element("status").textContent = photo.name;
    show(result);
  } catch (error) {
    if (request.signal.aborted) return;
    element("result").hidden = true;
    element("status").className = "error";
    element("status").textContent = error instanceof TypeError ? "The server does not answer. Is dl_lib demo running?" : error.message;
  }
}

function show(result) {
  element("overlay").src = result.overlay;
  element("overlay").alt = `${photo.name}, with its pixels in the colors of their classes`;
  element("gflops").textContent = result.gflops === null ? "unknown" : `${result.gflops.toPrecision(3)} GFLOPs`;
  element("seconds").textContent = `${(1000 * result.seconds).toFixed(1)} ms`;
  element("unchanged").textContent = `${(100 * result.unchanged).toFixed(1)} %`;
  element("classes").replaceChildren(...result.classes.map(legendEntry));
  element("route").innerHTML = result.route ?? ""; // markup of the server, which escapes names
  element("result").hidden = false;
}

function legendEntry({ name, color, fraction }) {
  const entry = document.createElement("li");
  const swatch = document.createElement("span");
  swatch.className = "swatch";
  swatch.style.background = color;
  entry.append(swatch, `${name} ${(100 * fraction).toFixed(1)} %`);
  return entry;
}

function showThreshold() {
  element("threshold-value").textContent = Number(element("threshold").value).toFixed(2);
}

function choose(files) {
  if (!files.length) return;
  photo = files[0];
  predict();
}

async function start() {
  const settings = await fetchJson("settings");
  element("run").textContent = settings.run;
  defaultThreshold = settings.threshold;
  element("gates").hidden = element("unchanged-row").hidden = defaultThreshold === null;
  element("threshold").value = defaultThreshold ?? 0;
  showThreshold();
}

const drop = element("drop");
element("file").addEventListener("change", (event) => choose(event.target.files));
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragenter" || name === "dragover");
  });
}
document.addEventListener("drop", (event) => choose(event.dataTransfer.files));
element("threshold").addEventListener("input", showThreshold);
element("threshold").addEventListener("change", predict);
element("reset").addEventListener("click", () => {
  element("threshold").value = defaultThreshold;
  showThreshold();
  predict();
});
start();
