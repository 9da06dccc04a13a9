// A grid of any number of shapes: only the tiles that can be seen exist, their lines are loaded in pages.

import { h } from "./dom.js";

const PAGE = 100, GAP = 14, TEXT = 50, TALLEST = 8e6;

export class Grid {
  /** load(offset, limit) -> promise of { total, shapes }; make(shape, index) -> tile. */
  constructor(load, make) {
    this.load = load;
    this.make = make;
    this.root = h("div", { class: "grid", role: "list" });
    this.tiles = new Map();
    this.pages = new Map();
    this.total = 0;
    this.scroll = () => this.draw();
    this.resize = new ResizeObserver(() => this.measure());
    addEventListener("scroll", this.scroll, { passive: true });
    this.resize.observe(this.root);
    this.root.addEventListener("keydown", (event) => this.key(event));
  }

  /** Load the first page; resolves to the number of shapes. */
  async begin() {
    const first = await this.page(0);
    this.total = first.total;
    this.measure(true);
    return this.total;
  }

  page(number) {
    if (!this.pages.has(number)) {
      const answer = this.load(number * PAGE, PAGE);
      this.pages.set(number, answer);
      answer.catch(() => this.pages.delete(number));
    }
    return this.pages.get(number);
  }

  measure(force = false) {
    const width = this.root.clientWidth;
    if (!width || (!force && width === this.width)) return;
    const before = this.columns ? Math.floor(this.position() / this.step) * this.columns : 0;
    const moved = this.width !== undefined && this.width !== width;
    this.width = width;
    const wanted = width < 560 ? 140 : width < 1100 ? 150 : 172;
    this.columns = Math.max(2, Math.floor((width + GAP) / (wanted + GAP)));
    this.side = (width - GAP * (this.columns - 1)) / this.columns;
    this.step = this.side + TEXT + GAP;
    this.rows = Math.ceil(this.total / this.columns);
    this.tall = this.rows * this.step;
    this.root.style.height = `${Math.min(this.tall, TALLEST)}px`;
    for (const tile of this.tiles.values()) tile.remove();
    this.tiles.clear();
    if (moved && before) this.show(before);
    this.draw();
  }

  /** Pixels of the whole grid above the top of the window; the grid may be taller than a page can be. */
  position() {
    const top = -this.root.getBoundingClientRect().top;
    if (this.tall <= TALLEST) return top;
    const room = TALLEST - innerHeight;
    return Math.max(0, Math.min(1, top / room)) * (this.tall - innerHeight);
  }

  draw() {
    if (!this.total || !this.step) return;
    const top = -this.root.getBoundingClientRect().top, position = this.position();
    const first = Math.max(0, Math.floor(position / this.step) - 1) * this.columns;
    const last = Math.min(this.total, (Math.ceil((position + innerHeight) / this.step) + 1) * this.columns);
    for (const [index, tile] of this.tiles) {
      if (index < first || index >= last) {
        if (tile.contains(document.activeElement)) continue;
        tile.remove();
        this.tiles.delete(index);
      }
    }
    for (let index = first; index < last; index++) {
      let tile = this.tiles.get(index);
      if (!tile) {
        tile = h("div", { class: "tile", role: "listitem" }, h("span", { class: "thumb" }));
        tile.style.width = `${this.side}px`;
        this.tiles.set(index, tile);
        this.root.append(tile);
        this.fill(index, tile);
      }
      const row = Math.floor(index / this.columns), column = index % this.columns;
      const y = this.tall <= TALLEST ? row * this.step : row * this.step - position + top;
      tile.style.transform = `translate(${column * (this.side + GAP)}px, ${y}px)`;
    }
  }

  async fill(index, slot) {
    // What is only flown over is not loaded.
    const known = this.pages.get(Math.floor(index / PAGE));
    if (!known) await new Promise((done) => setTimeout(done, 90));
    if (this.tiles.get(index) !== slot) return;
    let page;
    try {
      page = await this.page(Math.floor(index / PAGE));
    } catch (error) {
      if (!this.failed) document.dispatchEvent(new CustomEvent("failed", { detail: error }));
      this.failed = true;
      return;
    }
    if (this.tiles.get(index) !== slot) return;
    const shape = page.shapes[index % PAGE];
    if (!shape) return;
    const tile = this.make(shape, index);
    tile.dataset.index = index;
    tile.style.position = "static";
    slot.replaceChildren(tile);
    setTimeout(() => { if (this.tiles.get(index) === slot) tile.frame.start(); }, 60);
    if (this.wanted === index) this.focus(index);
  }

  /** Scroll so that a shape can be seen. */
  show(index) {
    const row = Math.floor(index / this.columns), above = this.root.getBoundingClientRect().top + scrollY;
    if (this.tall > TALLEST) {
      scrollTo(0, above + ((row * this.step) / (this.tall - innerHeight)) * (TALLEST - innerHeight));
      return;
    }
    const y = above + row * this.step, bar = 72;
    if (y < scrollY + bar) scrollTo(0, y - bar);
    else if (y + this.step > scrollY + innerHeight) scrollTo(0, y + this.step - innerHeight);
  }

  focus(index) {
    this.show(index);
    this.draw();
    const link = this.tiles.get(index)?.querySelector("a.tile");
    this.wanted = link ? null : index;
    link?.focus({ preventScroll: true });
  }

  key(event) {
    const link = event.target.closest("a.tile");
    if (!link || event.altKey || event.ctrlKey || event.metaKey) return;
    const at = Number(link.dataset.index), last = this.total - 1;
    const seen = Math.max(1, Math.floor(innerHeight / this.step));
    const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns, PageDown: seen * this.columns, PageUp: -seen * this.columns, Home: -at, End: last - at };
    if (!(event.key in moves)) return;
    event.preventDefault();
    this.focus(Math.max(0, Math.min(last, at + moves[event.key])));
  }

  close() {
    removeEventListener("scroll", this.scroll);
    this.resize.disconnect();
  }
}

/** Arrow keys between the tiles of an ordinary list. */
export function arrows(list) {
  list.addEventListener("keydown", (event) => {
    const links = [...list.querySelectorAll("a.tile, a.twin")], at = links.indexOf(event.target.closest("a.tile, a.twin"));
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const top = links[0].offsetTop;
    let columns = links.findIndex((link) => link.offsetTop !== top);
    if (columns < 0) columns = links.length;
    const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -at, End: links.length };
    if (!(event.key in moves)) return;
    event.preventDefault();
    links[Math.max(0, Math.min(links.length - 1, at + moves[event.key]))].focus();
  });
  return list;
}
