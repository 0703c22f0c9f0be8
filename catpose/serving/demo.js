"use strict";
// The page's state: what the server is, the picture that is shown, and the pose in its box.
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
let about = null;
let picture = null; // {picture, name, width, height}
let pose = null; // {box, keypoints, confidence, kept: [bool], moved: [bool]}
let asked = 0; // number of the last prediction asked for: an older answer is dropped

function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", wrong);
}

async function ask(path, body) {
  let answer;
  try {
    const json = body !== undefined && !(body instanceof Blob);
    answer = await fetch(path, body === undefined ? {} : { method: "POST", body: json ? JSON.stringify(body) : body });
  } catch {
    throw new Error("The server doesn't answer: is the demo still running?");
  }
  if (answer.ok) return answer;
  let line = `the server answered ${answer.status}`;
  try { line = (await answer.json()).error ?? line; } catch { /* no JSON: the status tells */ }
  throw new Error(line);
}

async function guarded(work) {
  try { await work(); } catch (error) { say(error.message, true); }
}

async function take(file) {
  say(`Reading ${file.name} …`);
  const added = await (await ask(`/pictures?name=${encodeURIComponent(file.name)}`, file)).json();
  picture = added;
  $("drop").hidden = true;
  $("tools").hidden = false;
  $("view").removeAttribute("hidden"); // an SVG has no such property
  await predict(null);
}

async function predict(box) {
  const number = ++asked;
  say("Predicting …");
  const answer = await ask("/predict", { picture: picture.picture, model: $("model").value, box });
  const found = await answer.json();
  if (number !== asked) return;
  const above = Number($("above").value);
  pose = { ...found, kept: found.confidence.map((c) => c > above), moved: found.confidence.map(() => false) };
  draw();
  report();
}

function report() {
  const n = pose.kept.filter(Boolean).length;
  say(`${picture.name}: ${n} of ${pose.kept.length} keypoints above ${Number($("above").value).toFixed(2)}.`);
}

// ---- drawing

function element(name, attributes, parent = $("view")) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

function draw() {
  const view = $("view");
  const focused = document.activeElement?.dataset?.what;
  const { width, height } = picture;
  if (view.dataset.picture !== picture.picture) {
    view.dataset.picture = picture.picture;
    view.setAttribute("viewBox", `-0.5 -0.5 ${width} ${height}`); // the centre of the first pixel is (0, 0)
    view.style.width = `min(100%, calc(80vh * ${width / height}))`; // small pictures are shown larger
    view.replaceChildren();
    element("image", { href: `/pictures/${picture.picture}`, x: -0.5, y: -0.5, width, height });
    element("g", { id: "marks" });
  }
  const marks = $("marks");
  marks.replaceChildren();
  const [x, y, w, h] = pose.box;
  const scale = width / (view.getBoundingClientRect().width || width); // image px a screen px
  element("rect", { class: "box under", x, y, width: w, height: h }, marks);
  element("rect", { class: "box", x, y, width: w, height: h }, marks);
  const side = element("rect", { class: "side", fill: "none", "pointer-events": "stroke", x, y, width: w, height: h, "stroke-width": 20 * scale,
    tabindex: 0, "data-what": "side", role: "button", "aria-label": "The box: arrow keys move it" }, marks);
  grabbed(side, (dx, dy) => {
    pose.box[0] = within(pose.box[0] + dx, 0, width - w);
    pose.box[1] = within(pose.box[1] + dy, 0, height - h);
  }, () => predict(pose.box));
  for (const [a, b] of about.limbs) {
    if (!pose.kept[a] || !pose.kept[b]) continue;
    const [p, q] = [pose.keypoints[a], pose.keypoints[b]];
    element("line", { class: "limb", x1: p[0], y1: p[1], x2: q[0], y2: q[1], stroke: about.colors[b] }, marks);
  }
  for (const right of [0, 1]) for (const low of [0, 1]) {
    const corner = element("circle", { class: "corner", cx: x + right * w, cy: y + low * h, r: 8 * scale, tabindex: 0,
      "data-what": `corner${right}${low}`, role: "button",
      "aria-label": `The box's ${low ? "lower" : "upper"} ${right ? "right" : "left"} corner` }, marks);
    grabbed(corner, (dx, dy) => resize(right, low, dx, dy), () => predict(pose.box));
  }
  pose.keypoints.forEach(([px, py], k) => {
    if (!pose.kept[k]) return;
    const point = element("circle", { class: pose.moved[k] ? "point moved" : "point", cx: px, cy: py, fill: about.colors[k],
      r: (pose.moved[k] ? 8 : 4 + 4 * Math.sqrt(Math.min(1, pose.confidence[k]))) * scale, tabindex: 0,
      "data-what": `point${k}`, role: "button", "aria-label": about.names[k] }, marks);
    element("title", {}, point).textContent = `${about.names[k]} ${pose.confidence[k].toFixed(2)}`;
    grabbed(point, (dx, dy) => {
      pose.keypoints[k][0] = Math.min(width - 1, Math.max(0, pose.keypoints[k][0] + dx));
      pose.keypoints[k][1] = Math.min(height - 1, Math.max(0, pose.keypoints[k][1] + dy));
      pose.moved[k] = true;
    }, () => say(`${about.names[k]} moved; "Save correction" keeps it.`));
  });
  if (focused) marks.querySelector(`[data-what="${focused}"]`)?.focus();
  list();
}

// Between two bounds, whichever is the larger: what is dragged out of the page can't be dragged back.
function within(value, one, other) {
  return Math.min(Math.max(value, Math.min(one, other)), Math.max(one, other));
}

function resize(right, low, dx, dy) {
  const { box } = pose;
  let [far, under] = [box[0] + box[2], box[1] + box[3]];
  if (right) far = Math.max(within(far + dx, 0, picture.width), box[0] + 2);
  else box[0] = Math.min(within(box[0] + dx, 0, picture.width), far - 2);
  if (low) under = Math.max(within(under + dy, 0, picture.height), box[1] + 2);
  else box[1] = Math.min(within(box[1] + dy, 0, picture.height), under - 2);
  [box[2], box[3]] = [far - box[0], under - box[1]];
}

// Drag by pointer, or by arrow keys: `move` gets image px, `done` is called once it has come to rest.
function grabbed(mark, move, done) {
  const what = mark.dataset.what;
  mark.addEventListener("pointerdown", (down) => {
    down.preventDefault();
    const scale = picture.width / $("view").getBoundingClientRect().width;
    let [x, y] = [down.clientX, down.clientY];
    let dragged = false;
    const follow = (event) => {
      move((event.clientX - x) * scale, (event.clientY - y) * scale);
      [x, y] = [event.clientX, event.clientY];
      dragged = true;
      draw();
    };
    const end = () => {
      removeEventListener("pointermove", follow);
      removeEventListener("pointerup", end);
      removeEventListener("pointercancel", end);
      $("marks").querySelector(`[data-what="${what}"]`)?.focus();
      if (dragged) guarded(async () => done());
    };
    addEventListener("pointermove", follow);
    addEventListener("pointerup", end);
    addEventListener("pointercancel", end);
  });
  mark.addEventListener("keydown", (key) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key.key];
    if (!step) return;
    key.preventDefault();
    const size = key.shiftKey ? 10 : 1;
    move(step[0] * size, step[1] * size);
    draw();
    clearTimeout(grabbed.waiting);
    grabbed.waiting = setTimeout(() => guarded(async () => done()), 300);
  });
}

function list() {
  const rows = $("keypoints");
  if (rows.children.length !== about.names.length) {
    rows.replaceChildren(...about.names.map((name, k) => {
      const row = document.createElement("tr");
      row.innerHTML = '<td><label><input type="checkbox"><i></i><span></span></label></td><td class="number"></td>';
      row.querySelector("span").textContent = name.replaceAll("_", " ");
      row.querySelector("i").style.background = about.colors[k];
      row.querySelector("input").addEventListener("change", (event) => { pose.kept[k] = event.target.checked; draw(); });
      return row;
    }));
  }
  about.names.forEach((_, k) => {
    rows.children[k].querySelector("input").checked = pose.kept[k];
    rows.children[k].lastElementChild.textContent = pose.moved[k] ? "moved" : pose.confidence[k].toFixed(2);
  });
}

// ---- what can be taken away

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const stem = () => picture.name.replace(/\.[^.]*$/, "");
const shown = () => pose.confidence.map((c, k) => (pose.kept[k] ? (pose.moved[k] ? 1 : Math.max(c, 0.05)) : 0));

function results() {
  const kept = pose.confidence.filter((c) => c > 0.2);
  return [{
    image_id: 1, category_id: 1, file_name: picture.name, bbox: pose.box,
    keypoints: pose.keypoints.flatMap(([x, y], k) => [x, y, pose.confidence[k]]),
    score: kept.length ? kept.reduce((sum, c) => sum + c, 0) / kept.length : 0,
  }];
}

async function save() {
  const keypoints = pose.keypoints.map(([x, y], k) => (pose.kept[k] ? [x, y, 2] : [0, 0, 0]));
  const saved = await (await ask("/corrections", { picture: picture.picture, box: pose.box, keypoints })).json();
  const animals = saved.animals === 1 ? "1 animal" : `${saved.animals} animals`;
  say(`Saved: ${animals} of ${picture.name} in ${saved.file}. Save each animal of the picture: --onto removes the others.`);
}

// ---- start

addEventListener("DOMContentLoaded", () => guarded(async () => {
  about = await (await ask("/about")).json();
  $("model").replaceChildren(...about.models.map((name) => new Option(name, name)));
  const on = (id, event, work) => $(id).addEventListener(event, (given) => guarded(async () => work(given)));
  on("file", "change", (event) => event.target.files.length && take(event.target.files[0]));
  on("model", "change", () => picture && predict(pose ? pose.box : null));
  on("whole", "click", () => predict(null));
  on("save", "click", save);
  on("json", "click", () => download(new Blob([JSON.stringify(results(), null, 1)], { type: "application/json" }), `${stem()}.json`));
  on("overlay", "click", async () => {
    const drawn = await ask("/overlay", { picture: picture.picture, box: pose.box, keypoints: pose.keypoints, confidence: shown() });
    download(await drawn.blob(), `${stem()}-pose.jpg`);
  });
  on("other", "click", () => { $("file").value = ""; $("file").click(); });
  on("above", "input", () => {
    const above = Number($("above").value);
    $("above-value").textContent = above.toFixed(2);
    pose.kept = pose.confidence.map((c, k) => pose.moved[k] || c > above);
    draw();
    report();
  });
  $("drop").addEventListener("keydown", (key) => { if (key.key === "Enter" || key.key === " ") $("file").click(); });
  for (const event of ["dragover", "dragleave", "drop"]) addEventListener(event, (given) => {
    given.preventDefault();
    $("drop").classList.toggle("over", event === "dragover");
    if (event === "drop" && given.dataTransfer.files.length) guarded(async () => take(given.dataTransfer.files[0]));
  });
  addEventListener("resize", () => pose && draw());
}));
