// The frame around the views: addresses, keys, bringing files, theme.

import { Problem, ask, forget, library, problem } from "./api.js";
import { bytes, empty, h, note } from "./dom.js";
import { atlas } from "./atlas.js";
import { compare } from "./compare.js";
import { address_of, found } from "./found.js";
import { review } from "./review.js";
import { shape } from "./shape.js";
import { shapes } from "./shapes.js";
import { tagging } from "./tagging.js";

const routes = { "": shapes, shape, compare, atlas, found, review, tagging };
const main = document.getElementById("main"), find = document.getElementById("find"), picker = document.getElementById("file");
let current = null, turn = 0;

history.scrollRestoration = "manual";

/** Go to an address of this page. replace: instead of the one that is shown; keep: do not scroll to the top. */
export function go(address, { replace = false, keep = false } = {}) {
  const same = address === location.pathname + location.search;
  history.replaceState({ ...history.state, scroll: scrollY }, "");
  history[replace || same ? "replaceState" : "pushState"]({ scroll: keep ? scrollY : 0, depth: (history.state?.depth || 0) + (replace || same ? 0 : 1) }, "", address);
  show(keep ? scrollY : 0);
}

/** A part of an address as text; as it is where it cannot be decoded. */
function decoded(part) {
  try { return decodeURIComponent(part); } catch { return part; }
}

async function show(scroll, anew = false) {
  // What changes within a view, such as a shape's colours, is changed there: the camera stays.
  if (!anew && current?.update && current.path === location.pathname && current.update(new URLSearchParams(location.search))) return;
  const mine = ++turn;
  const [word, ...rest] = location.pathname.slice(1).split("/").map(decoded);
  const query = new URLSearchParams(location.search);
  const fresh = h("div");
  current?.close?.();
  current = null;
  for (const link of document.querySelectorAll(".bar nav a")) {
    if (link.dataset.view === (word || "shapes")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (document.activeElement !== find) find.value = query.get("q") || "";
  const waiting = setTimeout(() => main.replaceChildren(empty("", "", h("span", { class: "spin", role: "status", "aria-label": "Loading" }))), 350);
  // In the page before it is filled: a grid wants to know its width.
  const place = () => { clearTimeout(waiting); if (mine === turn && !fresh.isConnected) main.replaceChildren(fresh); };
  try {
    const route = routes[word];
    if (!route) throw new Problem({ title: "There is no such page", detail: location.pathname });
    const watch = new MutationObserver(place);
    watch.observe(fresh, { childList: true });
    const view = await route(fresh, { rest, query, go });
    watch.disconnect();
    place();
    if (mine !== turn) { view?.close?.(); return; }
    current = view && { path: location.pathname, ...view };
    await view?.settled; // keys work before the last of it has come; the scroll position needs its height
    if (mine !== turn) return;
    scrollTo(0, scroll);
    requestAnimationFrame(() => { if (mine === turn) scrollTo(0, scroll); });
    document.documentElement.dataset.ready = location.pathname;
  } catch (error) {
    clearTimeout(waiting);
    if (mine !== turn) return;
    failed(error, () => { forget(); show(0); });
  }
}

function failed(error, again) {
  const gone = ["library-gone", "offline"].includes(error.kind);
  main.replaceChildren(empty(error.title || "This did not work", error.message,
    h("div", { class: "row" }, h("button", { class: "button strong", type: "button", onclick: again }, "Try again"), h("a", { class: "button", href: "/" }, "All shapes"))));
  document.documentElement.dataset.ready = "failed";
  if (gone) {
    const mine = turn;
    setTimeout(() => { if (mine === turn) again(); }, 5000);
  }
  if (!(error instanceof Problem)) console.error(error);
}

addEventListener("popstate", (event) => show(event.state?.scroll || 0));
addEventListener("beforeunload", () => history.replaceState({ ...history.state, scroll: scrollY }, ""));
document.addEventListener("go", (event) => go(event.detail));
document.addEventListener("bring", (event) => bring(event.detail.file, event.detail.more));
document.addEventListener("failed", (event) => note(event.detail.message, { bad: true }));
document.addEventListener("changed", () => {
  forget();
  note("The library has changed.", { seconds: 0, action: ["Show", () => show(scrollY, true)] });
});

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey || link.target || link.hash) return;
  if (link.origin !== location.origin || !(link.pathname.split("/")[1] in routes)) return;
  event.preventDefault();
  go(link.pathname + link.search);
});

// Finding by name

let typing = 0;
find.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    const at_grid = location.pathname === "/";
    const query = new URLSearchParams(at_grid ? location.search : "");
    if (find.value.trim()) query.set("q", find.value.trim()); else query.delete("q");
    query.delete("like");
    go(`/${String(query) && `?${query}`}`, { replace: at_grid && new URLSearchParams(location.search).has("q") });
  }, 160);
});
find.form.addEventListener("submit", (event) => { event.preventDefault(); current?.focus?.(); });

// Bringing a file

/** more: what is searched for together with the file, as [["id", ...], ["token", ...]]. */
async function bring(file, more = []) {
  const about = await library().catch(() => null);
  const suffix = file.name.includes(".") ? file.name.slice(file.name.lastIndexOf(".")).toLowerCase() : "";
  if (about && !about.reads.includes(suffix)) { note(`${file.name}: neither a shape nor a picture known here (${about.reads.join(" ")}).`, { bad: true, seconds: 12 }); return; }
  if (about && file.size > about.max_upload) { note(`${file.name} has ${bytes(file.size)}; the limit is ${bytes(about.max_upload)}.`, { bad: true, seconds: 12 }); return; }
  const form = new FormData();
  for (const [key, value] of more) form.append(key, value);
  form.append("file", file, file.name);
  const done = note(`Looking at ${file.name} …`, { busy: true });
  try {
    const response = await fetch("/search?top=48", { method: "POST", body: form });
    if (!response.ok) throw await problem(response);
    const answer = await response.json();
    done();
    go(address_of(answer.query.queries || [answer.query]));
  } catch (error) {
    done();
    const text = error instanceof Problem ? error.message : "The server does not answer.";
    note(`${file.name}: ${text}`, { bad: true, seconds: 20, action: [503, 429].includes(error.status) ? ["Try again", () => bring(file, more)] : null });
  }
}
picker.addEventListener("change", () => { if (picker.files[0]) bring(picker.files[0]); picker.value = ""; });

const drop = document.getElementById("drop");
let inside = 0;
const carries = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
addEventListener("dragenter", (event) => { if (carries(event)) { event.preventDefault(); inside++; drop.hidden = false; } });
addEventListener("dragover", (event) => { if (carries(event)) { event.preventDefault(); event.dataTransfer.dropEffect = "copy"; } });
addEventListener("dragleave", (event) => { if (carries(event) && --inside <= 0) { inside = 0; drop.hidden = true; } });
addEventListener("drop", (event) => {
  if (!carries(event)) return;
  event.preventDefault();
  inside = 0;
  drop.hidden = true;
  if (event.dataTransfer.files[0]) bring(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => { const file = event.clipboardData?.files?.[0]; if (file) { event.preventDefault(); bring(file); } });

// Theme and keys

function turn_theme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* chosen for now */ }
  document.dispatchEvent(new CustomEvent("theme"));
}
document.getElementById("theme").addEventListener("click", turn_theme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new CustomEvent("theme")));

const keys = document.getElementById("keys");
keys.append(h("h2", {}, "Keys"), h("dl", {}, [["/", "find by name"], ["← → ↑ ↓", "from shape to shape; turn a shape; move the map"], ["Enter", "open"], ["Esc", "back"], ["g m d l", "shapes, map, duplicates, tags"], ["o", "bring a file"], ["c", "hold a shape, to compare others with it or search by both"], ["p", "the parts of a shape in colours"], ["s x u", "of a pair: the same, different, not sure"], ["a r", "of a proposed tag: accept, refuse"], ["+ −  0", "nearer, further, as at first"], ["t", "light or dark"], ["?", "this list"]]
  .flatMap(([key, text]) => [h("dt", {}, key.split(" ").filter(Boolean).flatMap((one) => [h("kbd", {}, one), " "])), h("dd", {}, text)])));
keys.addEventListener("click", (event) => { if (event.target === keys) keys.close(); });

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || keys.open) return;
  const typing = event.target.matches("input, select, textarea");
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    if (event.target === find && event.key === "ArrowDown") { event.preventDefault(); current?.focus?.(); }
    return;
  }
  const acts = {
    "/": () => { find.focus(); find.select(); },
    Escape: () => { if (location.pathname !== "/" || location.search) { if (history.state?.depth) history.back(); else go("/"); } },
    g: () => go("/"), m: () => go("/atlas"), d: () => go("/review"), l: () => go("/tagging"), t: turn_theme, o: () => picker.click(), "?": () => keys.showModal(),
    ...current?.keys,
  };
  if (event.key in acts) { event.preventDefault(); acts[event.key](); return; }
  if (event.key.startsWith("Arrow") && (event.target === document.body || event.target === main)) { event.preventDefault(); current?.focus?.(); }
});

library().then((about) => {
  document.getElementById("library").textContent = about.name.replace(/\.lance$/, "");
  picker.accept = about.reads.join(",");
  if (about.why_not) note(about.why_not, { seconds: 12 });
}, () => {});
// Whether the library has changed, or is there at all, is seen without a click.
setInterval(() => { if (!document.hidden) ask("/shapes", { limit: 1 }).catch(() => {}); }, 15000);
show(history.state?.scroll || 0);
