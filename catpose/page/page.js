// The page's behaviour: theme, navigation, copying; galleries are in page.gallery.js, which follows in the same script.
// Without it, all but the galleries is still there.
"use strict";

// -- theme: the system's, unless another was chosen here ---------------------------------------------------------

const root = document.documentElement;
root.classList.add("scripted"); // what needs a script is shown
const memory = {
  // Storage may be refused, where a page is opened from a file for example.
  get theme() { try { return localStorage.getItem("catpose-theme"); } catch { return null; } },
  set theme(value) { try { localStorage.setItem("catpose-theme", value); } catch { /* it isn't remembered */ } },
};
if (memory.theme) root.dataset.theme = memory.theme; // before anything is drawn
const system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

document.addEventListener("DOMContentLoaded", () => {
  themeButton(document.getElementById("theme"));
  document.querySelectorAll(".scroll").forEach(reachable);
  document.querySelectorAll(".code").forEach(copyable);
  navigation(document.querySelector("nav"));
  document.querySelectorAll(".gallery").forEach((place) => new Gallery(place));
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((fold) => { fold.open = true; }));
});

function themeButton(button) {
  const show = () => button.setAttribute("aria-pressed", isDark());
  button.addEventListener("click", () => {
    root.dataset.theme = memory.theme = isDark() ? "light" : "dark";
    show();
  });
  system.addEventListener("change", show);
  show();
}

/** A box takes the keyboard's focus only while it has something to scroll. */
function reachable(box) {
  const measure = () => { box.tabIndex = box.scrollWidth > box.clientWidth + 1 ? 0 : -1; };
  new ResizeObserver(measure).observe(box);
}

function copyable(box) {
  const [button, text] = [box.querySelector("button"), box.querySelector("code")];
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text); // for Ctrl-C
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

/** Marks the section that is being read. */
function navigation(nav) {
  const links = new Map([...nav.querySelectorAll("a")].map((link) => [link.hash.slice(1), link]));
  const read = new Set();
  const watch = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) read[isIntersecting ? "add" : "delete"](target.id);
    for (const [id, link] of links) {
      if (!read.has(id)) link.removeAttribute("aria-current");
      else if (!link.hasAttribute("aria-current")) {
        link.setAttribute("aria-current", "true");
        const list = link.closest("ul");
        list.scrollLeft = link.offsetLeft - (list.clientWidth - link.offsetWidth) / 2;
      }
    }
  }, { rootMargin: "-25% 0px -74% 0px" });
  document.querySelectorAll("main > section[id]").forEach((section) => watch.observe(section));
}
