// Galleries: the instances of a page's data as cards, sorted, filtered, compared, and one at a time in a dialog.

const PAGE = 8; // cards added at a time
const ASPECT = 4 / 3; // of a card's picture
const PAD = 0.125; // on each side of a box, as in the crops that models see

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
const element = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
const shape = (name, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
const decimals = (value, n) => (value === null || value === undefined ? "–" : value.toFixed(n));
const signed = (value) => {
  const size = Math.abs(value).toFixed(3);
  return (Number(size) ? (value < 0 ? "−" : "+") : "") + size;
};

class Gallery {
  constructor(place) {
    const find = (selector) => place.querySelector(selector);
    Object.assign(this, { place, form: find("form"), list: find(".cards"), more: find(".more") });
    this.dialog = find("dialog");
    this.data = JSON.parse(find("script").textContent);
    this.data.items.forEach((item, index) => { item.index = index; });
    const choices = this.fields().filter((field) => field.name.startsWith("is:") && field.length > 2);
    this.varied = new Set(choices.map((field) => field.name.slice(3))); // the attributes that tell instances apart
    this.defaults = this.state();
    this.open = null; // the item that the dialog shows
    find("details").open = innerWidth >= 700;

    place.addEventListener("input", (event) => this.changed(event.target));
    this.form.addEventListener("submit", (event) => event.preventDefault());
    find(".reset").addEventListener("click", () => this.reset());
    this.more.addEventListener("click", () => this.extend()?.focus({ preventScroll: true }));
    this.list.addEventListener("click", (event) => this.show(event.target.closest(".card")));
    this.list.addEventListener("keydown", (event) => this.move(event));
    this.list.addEventListener("focusin", (event) => this.enter(event.target));
    for (const button of place.querySelectorAll(".step")) {
      button.addEventListener("click", () => this.step(Number(button.dataset.step)));
    }
    find(".close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("keydown", (event) => this.steer(event));
    this.dialog.addEventListener("click", (event) => { if (event.target === this.dialog) this.dialog.close(); });
    this.dialog.addEventListener("close", () => this.closed());
    addEventListener("hashchange", () => this.restore());
    if (!this.restore()) this.render();
  }

  // The state is what the form says. A view can be linked: what differs from the defaults stands in the address.

  fields() { return [...this.form.elements].filter((field) => field.name); }

  state() {
    const value = (field) => (field.type === "checkbox" ? (field.checked ? "1" : "0") : field.value);
    return Object.fromEntries(this.fields().map((field) => [field.name, value(field)]));
  }

  set(values) {
    for (const field of this.fields()) {
      const value = values[field.name] ?? this.defaults[field.name];
      if (field.type === "checkbox") field.checked = value === "1";
      else field.value = value;
      if (field.selectedIndex === -1) field.value = this.defaults[field.name]; // a link to what isn't there
    }
  }

  restore() {
    const [id, query] = location.hash.slice(1).split(/\?(.*)/s);
    if (id !== this.place.id) return false;
    const values = Object.fromEntries(new URLSearchParams(query));
    this.set(values);
    this.render();
    this.place.scrollIntoView();
    const item = this.data.items[values.item ?? -1];
    if (item) this.show(this.reveal(this.order.indexOf(item)));
    return true;
  }

  save() {
    const state = Object.entries(this.state()).filter(([name, value]) => value !== this.defaults[name]);
    if (this.open) state.push(["item", this.open.index]);
    try {
      history.replaceState(null, "", `#${this.place.id}${state.length ? "?" + new URLSearchParams(state) : ""}`);
    } catch { /* too often, or not allowed here */ }
  }

  reset() {
    const { sort, model, compare, prediction, truth, whole, colour } = this.state();
    this.set({ sort, model, compare, prediction, truth, whole, colour });
    this.changed();
    this.form.elements.sort.focus();
  }

  changed(field) {
    const { sort, model, compare } = this.form.elements;
    if (compare.value === model.value) compare.value = "";
    if (sort.value === "difference" && compare.value === "") {
      if (field === compare) sort.value = "worst";
      else compare.value = this.others(model.value)[0];
    }
    this.render();
    if (this.open) this.fillDialog();
    this.save();
  }

  others(model) { return Object.keys(this.data.models).filter((other) => other !== model); }

  // Which instances are shown, in which order.

  /** The OKS that counts: 0 where an instance was not detected, null where it has no labelled keypoint. */
  value(item, model) { return item.truth.some(Boolean) ? item.poses[model]?.oks ?? 0 : null; }

  fits(item, { model, kind, keypoint, search, ...rest }) {
    const pose = item.poses[model];
    const k = this.data.keypoints.indexOf(keypoint);
    if (!item.title.toLowerCase().includes(search.trim().toLowerCase())) return false;
    if (keypoint && !item.truth[k]) return false;
    if (kind === "undetected" && pose) return false;
    if (kind && kind !== "undetected") {
      const wanted = this.data.error_types.indexOf(kind);
      if (!pose || !(keypoint ? pose.error_types[k] === wanted : pose.error_types.includes(wanted))) return false;
    }
    return Object.entries(rest).every(
      ([name, value]) => !name.startsWith("is:") || value === "" || item.slices[name.slice(3)] === value);
  }

  sorted(items, { sort, model, compare }) {
    const values = items.map((item) => this.value(item, model)).filter((value) => value !== null).sort((a, b) => a - b);
    const middle = values.length / 2;
    const median = (values[Math.floor(middle)] + values[Math.ceil(middle) - (values.length % 2)]) / 2;
    const keys = {
      worst: (value) => value,
      best: (value) => -value,
      median: (value) => Math.abs(value - median),
      difference: (value, item) => -Math.abs(value - this.value(item, compare)),
      data: () => 0,
    };
    const key = new Map(items.map((item) => {
      const value = this.value(item, model);
      return [item, value === null && sort !== "data" ? Infinity : keys[sort](value, item)];
    }));
    return [...items].sort((a, b) => (key.get(a) === key.get(b) ? a.index - b.index : key.get(a) - key.get(b)));
  }

  // The cards.

  render() {
    const state = this.state();
    this.order = this.sorted(this.data.items.filter((item) => this.fits(item, state)), state);
    this.place.dataset.colour = state.colour;
    this.place.classList.toggle("comparing", state.compare !== "");
    this.place.querySelector(".count").textContent = `${this.order.length} of ${this.data.items.length}`;
    this.place.querySelector(".empty").hidden = this.order.length > 0;
    this.list.replaceChildren();
    this.extend();
  }

  /** Adds a page of cards; the first of them. */
  extend() {
    const start = this.list.children.length;
    const state = this.state();
    const cards = this.order.slice(start, start + PAGE).map((item) => this.card(item, state));
    this.list.append(...cards.map((card) => element("li", {}, card)));
    if (start === 0 && cards.length) cards[0].tabIndex = 0;
    const left = this.order.length - this.list.children.length;
    this.more.hidden = left === 0;
    this.more.textContent = `Show ${Math.min(left, PAGE)} more of ${left}`;
    return cards[0];
  }

  card(item, state) {
    const models = state.compare === "" ? [state.model] : [state.model, state.compare];
    const panels = models.map((model) => this.panel(item, model, models, state));
    const telling = Object.entries(item.slices).filter(([name, value]) => this.varied.has(name) && value !== "no");
    const words = telling.map(([name, value]) => (value === "yes" ? name : `${name}: ${value}`)).join(" · ");
    const text = [element("span", { class: "title" }, item.title), element("span", { class: "slices" }, words)];
    return element("button", { type: "button", class: "card", tabindex: -1, "data-index": item.index },
      element("span", { class: "panels" }, ...panels), ...text);
  }

  /** What one of the models shown says of an instance; of the second also what it gains over the first. */
  panel(item, model, models, state, scale = 1) {
    const pose = item.poses[model];
    const [value, first] = [this.value(item, model), this.value(item, models[0])];
    const bar = element("span", { class: "bar" });
    bar.style.setProperty("--value", value ?? 0);
    const score = element("span", { class: "score" });
    if (models.length > 1) score.append(element("span", { class: "model" }, this.data.models[model]));
    const oks = pose ? ["OKS ", element("b", {}, decimals(pose.oks, 3))] : ["not detected"];
    score.append(element("span", { class: "oks" }, ...oks));
    if (model !== models[0] && value !== null) score.append(element("span", { class: "gain" }, signed(value - first)));
    const chips = this.data.error_types.map((kind, k) => {
      const n = pose ? pose.error_types.filter((found) => found === k).length : 0;
      return n ? element("span", { class: `chip mark-${kind}` }, element("i", { class: "dot" }), `${n} ${kind}`) : "";
    });
    return element("span", { class: "panel" }, this.picture(item, pose, state, scale), bar, score,
      element("span", { class: "error-types" }, ...chips));
  }

  /** The picture, zoomed to the instance's box unless the whole is wanted; truth as rings, the prediction as dots. */
  picture(item, pose, state, scale) {
    const [x, y, w, h] = item.box;
    const [width, height] = item.size;
    const pad = state.whole === "1" ? Infinity : PAD; // never beyond the picture
    const [left, top] = [Math.max(0, x - pad * w), Math.max(0, y - pad * h)];
    const [right, bottom] = [Math.min(width, x + w + pad * w), Math.min(height, y + h + pad * h)];
    const view = [left, top, right - left, bottom - top];
    const px = (Math.max(view[2], view[3] * ASPECT) / 300) * scale; // a px of a card of 300
    const svg = shape("svg", { viewBox: view.map((v) => v.toFixed(1)).join(" "), "aria-hidden": "true" },
      shape("image", { href: this.data.pictures[item.picture], width, height }));
    const colour = (k) => (state.colour === "side" ? this.data.sides[k] : this.data.error_types[pose?.error_types[k]] ?? "none");
    const line = (name, a, b, thick) => svg.append(shape("line",
      { class: name, x1: a[0], y1: a[1], x2: b[0], y2: b[1], "stroke-width": thick * px }));
    const circle = (name, at, r, thick, ...inside) => svg.append(shape("circle",
      { class: name, cx: at[0], cy: at[1], r: r * px, "stroke-width": thick * px }, ...inside));
    const title = (k, what) => shape("title", {}, `${this.data.keypoints[k]}, ${what}`);

    const predicted = (pose && state.prediction === "1" ? pose.keypoints : []).map((point, k) =>
      item.truth[k] || pose.confidence[k] > this.data.confident ? point : null);
    const truth = state.truth === "1" ? item.truth : [];
    for (const [a, b, k] of this.data.limbs) {
      const side = state.colour === "side" ? this.data.sides[k] : "none";
      if (predicted[a] && predicted[b]) line(`limb mark-${side}`, predicted[a], predicted[b], 2.2);
    }
    truth.forEach((point, k) => { if (point && predicted[k]) line("offset", point, predicted[k], 1); });
    truth.forEach((point, k) => {
      if (!point) return;
      circle("halo", point, 4.4, 3);
      circle(`ring mark-${state.colour === "side" ? this.data.sides[k] : "none"}`, point, 4.4, 1.5, title(k, "truth"));
    });
    predicted.forEach((point, k) => {
      if (point) circle(`point mark-${colour(k)}`, point, item.truth[k] ? 3.3 : 2, 1, title(k, "prediction"));
    });
    return svg;
  }

  // The keyboard: one card is in the order of Tab, arrows lead to the others.

  enter(card) {
    for (const other of this.list.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
    card.tabIndex = 0;
  }

  /** The card at a place of the order, made where it isn't yet. */
  reveal(position) {
    if (position < 0 || position >= this.order.length) return null;
    while (this.list.children.length <= position) this.extend();
    return this.list.children[position].firstChild;
  }

  move(event) {
    const lines = [...this.list.children];
    const columns = Math.max(1, lines.findIndex((line) => line.offsetTop > lines[0].offsetTop));
    const at = lines.indexOf(event.target.closest("li"));
    const [ArrowDown, End] = [columns, lines.length - 1 - at];
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown, ArrowUp: -ArrowDown, Home: -at, End };
    if (!(event.key in steps) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.reveal(at + steps[event.key])?.focus();
  }

  // The dialog: one instance with two models.

  show(card) {
    if (!card) return;
    this.open = this.data.items[card.dataset.index];
    const [outside, inside] = this.place.querySelectorAll(".view-place");
    inside.append(...outside.children); // the same switches
    this.fillDialog();
    if (!this.dialog.open) this.dialog.showModal();
    this.save();
  }

  step(by) {
    const n = this.order.length;
    const at = this.order.indexOf(this.open);
    if (n) this.open = this.order[at < 0 ? 0 : (at + by + n) % n];
    this.fillDialog();
    this.save();
  }

  steer(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by || event.target.matches("select") || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.step(by);
  }

  closed() {
    const [outside, inside] = this.place.querySelectorAll(".view-place");
    outside.append(...inside.children);
    const card = this.reveal(this.order.indexOf(this.open));
    this.open = null;
    this.save();
    (card ?? this.form.elements.sort).focus();
  }

  fillDialog() {
    const [item, state] = [this.open, this.state()];
    const models = [state.model, state.compare || this.others(state.model)[0]].filter((model) => model !== undefined);
    const put = (selector, ...children) => this.dialog.querySelector(selector).replaceChildren(...children);
    const at = this.order.indexOf(item);
    put("h3", item.title);
    put(".position", at < 0 ? "not among those shown" : `${at + 1} of ${this.order.length}`);
    put(".panels", ...models.map((model) => this.panel(item, model, models, state, 0.7)));
    put(".slices", Object.entries(item.slices).map(([name, value]) => `${name}: ${value}`).join(" · "));
    const columns = ["error", "similarity", "confidence"];
    const over = models.map((model) => element("th", { colspan: 3, scope: "colgroup" }, this.data.models[model]));
    const under = models.flatMap(() => columns.map((name) => element("th", { scope: "col" }, name)));
    const rows = this.data.keypoints.map((name, k) => element("tr", item.truth[k] ? {} : { class: "unlabelled" },
      element("th", { scope: "row" }, name), ...models.flatMap((model) => this.cells(item.poses[model], k))));
    put("table", element("caption", {}, "Keypoints"), element("thead", {}, element("tr", {}, element("td"), ...over),
      element("tr", {}, element("th", { scope: "col" }, "keypoint"), ...under)), element("tbody", {}, ...rows));
  }

  cells(pose, k) {
    const kind = this.data.error_types[pose?.error_types[k]];
    const mark = kind ? [element("i", { class: "dot" }), kind] : [pose ? "not labelled" : "–"];
    return [element("td", { class: `kind mark-${kind ?? "none"}` }, ...mark),
      element("td", {}, decimals(pose?.similarity[k], 2)), element("td", {}, decimals(pose?.confidence[k], 2))];
  }
}
