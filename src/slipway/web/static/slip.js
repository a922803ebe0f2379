// @ts-check
/* Slipway's custom elements, one class each. Every page reads and its links and forms work without this file. */

/** @type {(selector: string, root?: ParentNode) => HTMLElement | null} */
const one = (selector, root = document) => root.querySelector(selector);
/** @type {(selector: string, root?: ParentNode) => HTMLElement[]} */
const all = (selector, root = document) => [.../** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll(selector))];
/** Whether a key press belongs to a field that is being written in. @param {Event} event */
const writing = (event) => event.target instanceof Element && event.target.closest("input:not([type=range]), textarea, select, dialog") !== null;
/** @type {any} */
const htmx = /** @type {any} */ (window).htmx;

/** Switch between the system's, the light and the dark theme; the server reads the cookie on the next page. */
class SlipTheme extends HTMLElement {
  connectedCallback() {
    this.addEventListener("click", (event) => {
      const button = /** @type {HTMLElement} */ (event.target).closest("button");
      if (!button) return;
      event.preventDefault();
      const theme = button.getAttribute("value") || "system";
      document.documentElement.dataset.theme = theme;
      document.cookie = `slip_theme=${theme}; Path=/; Max-Age=31536000; SameSite=Strict`;
      all("button", this).forEach((each) => each.setAttribute("aria-pressed", String(each === button)));
    });
  }
}

/** The dialog behind Ctrl K: results come from the server as one types, arrows choose, Enter opens. */
class SlipSearch extends HTMLElement {
  connectedCallback() {
    const dialog = /** @type {HTMLDialogElement} */ (one("dialog", this));
    const input = /** @type {HTMLInputElement} */ (one("input", this));
    const open = () => { dialog.showModal(); input.select(); if (!one(".results a", this)) htmx.trigger(input, "search"); };
    one("[data-open]", this)?.addEventListener("click", (event) => { event.preventDefault(); open(); });
    document.addEventListener("keydown", (event) => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") { event.preventDefault(); open(); }
      else if (event.key === "/" && !writing(event)) { event.preventDefault(); open(); }
    });
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    input.addEventListener("keydown", (event) => {
      const links = all(".results a", this);
      const at = links.findIndex((link) => link.getAttribute("aria-selected") === "true");
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        const next = Math.max(0, Math.min(links.length - 1, at + (event.key === "ArrowDown" ? 1 : -1)));
        links.forEach((link, index) => link.setAttribute("aria-selected", String(index === next)));
        links[next]?.scrollIntoView({ block: "nearest" });
        if (links[next]) input.setAttribute("aria-activedescendant", links[next].id);
      } else if (event.key === "Enter" && links.length) {
        event.preventDefault();
        links[Math.max(0, at)].click();
      }
    });
  }
}

/** Keys of the whole page: `?` lists them, j and k walk through the rows of the list, Enter opens one. */
class SlipKeys extends HTMLElement {
  connectedCallback() {
    const dialog = /** @type {HTMLDialogElement} */ (one("dialog", this));
    document.addEventListener("keydown", (event) => {
      if (writing(event) || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "?") dialog.showModal();
      if ((event.key === "j" || event.key === "k") && !one("slip-queue")) this.step(event.key === "j" ? 1 : -1);
    });
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  }
  /** @param {number} by */
  step(by) {
    const links = all("main [data-open], main td a.open").filter((link) => link.offsetParent);
    if (!links.length) return;
    const at = links.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const next = links[at < 0 ? 0 : Math.max(0, Math.min(links.length - 1, at + by))];
    all("tr[aria-selected]").forEach((row) => row.removeAttribute("aria-selected"));
    next.closest("tr")?.setAttribute("aria-selected", "true");
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  }
}

/** The review queue: 1 to 5 rate the item on show, j and k move, u takes the last rating back, n goes to the note. */
class SlipQueue extends HTMLElement {
  connectedCallback() {
    this.onKey = (/** @type {KeyboardEvent} */ event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (writing(event)) { if (event.key === "Escape") /** @type {HTMLElement} */ (event.target).blur(); return; }
      if (event.key === "n") { event.preventDefault(); one("textarea", this)?.focus(); return; }
      one(`[data-key="${CSS.escape(event.key)}"]`, this)?.click();
    };
    document.addEventListener("keydown", this.onKey);
  }
  disconnectedCallback() {
    if (this.onKey) document.removeEventListener("keydown", this.onKey);
  }
}

/** Copies the text of its <code>. */
class SlipCopy extends HTMLElement {
  connectedCallback() {
    const button = one("button", this);
    button?.addEventListener("click", async () => {
      await navigator.clipboard.writeText(one("code", this)?.textContent || "");
      const use = one("use", button);
      use?.setAttribute("href", (use.getAttribute("href") || "").replace("#copy", "#done"));
      const said = one("[role=status]", this);
      if (said) said.textContent = "Copied";
    });
  }
}

/** Crosshair and tooltip of a chart, from the points that its SVG carries. */
class SlipChart extends HTMLElement {
  connectedCallback() {
    const svg = one("svg[data-points]", this);
    if (!svg) return;
    /** @type {{at: number, label: string, values: [number, string, string][]}[]} */
    const points = JSON.parse(svg.dataset.points || "[]");
    const tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
    const cross = one(".cross", this);
    this.append(tip);
    const leave = () => { tip.hidden = true; cross?.setAttribute("visibility", "hidden"); };
    this.addEventListener("pointerleave", leave);
    this.addEventListener("pointermove", (event) => {
      const area = svg.getBoundingClientRect();
      const share = ((event.clientX - area.left) / area.width) * 100;
      if (share < -2 || share > 102 || !points.length) return leave();
      const near = points.reduce((best, point) => (Math.abs(point.at - share) < Math.abs(best.at - share) ? point : best));
      cross?.setAttribute("x1", `${near.at}%`);
      cross?.setAttribute("x2", `${near.at}%`);
      cross?.setAttribute("visibility", "visible");
      tip.replaceChildren(Object.assign(document.createElement("strong"), { textContent: near.label }));
      for (const [series, name, text] of near.values) {
        const line = document.createElement("div");
        line.append(Object.assign(document.createElement("span"), { className: `swatch c${series}` }), ` ${name} ${text}`);
        tip.append(line);
      }
      tip.hidden = false;
      const own = this.getBoundingClientRect();
      const x = area.left - own.left + (near.at / 100) * area.width;
      tip.style.left = `${Math.max(0, x + 12 + tip.offsetWidth > own.width ? x - 12 - tip.offsetWidth : x + 12)}px`;
      tip.style.top = `${Math.max(0, event.clientY - own.top - tip.offsetHeight - 8)}px`;
    });
  }
}

/** Marks variables and tags behind the textarea of a prompt. */
class SlipEditor extends HTMLElement {
  connectedCallback() {
    const area = /** @type {HTMLTextAreaElement} */ (one("textarea", this));
    const behind = document.createElement("pre");
    behind.setAttribute("aria-hidden", "true");
    this.prepend(behind);
    this.setAttribute("ready", "");
    const paint = () => {
      behind.replaceChildren();
      for (const piece of `${area.value}\n`.split(/(\{\{[^{}]*\}\}|<\/?[\w-]+>)/)) {
        const kind = piece.startsWith("{{") ? "variable" : /^<\/?[\w-]+>$/.test(piece) ? "markup" : "";
        behind.append(kind ? Object.assign(document.createElement("span"), { className: kind, textContent: piece }) : piece);
      }
    };
    area.addEventListener("input", paint);
    paint();
  }
}

/** Shows the value of the range beside its label while it moves. */
class SlipRange extends HTMLElement {
  connectedCallback() {
    const input = /** @type {HTMLInputElement} */ (one("input[type=range]", this));
    const output = one("output", this);
    input.addEventListener("input", () => {
      const value = input.dataset.log ? 10 ** Number(input.value) : Number(input.value);
      if (output) output.textContent = Number(value.toPrecision(3)).toLocaleString("en-GB", { maximumFractionDigits: 6 });
    });
  }
}

/** A part that the server renders again when its topic changes. All parts of a page share one event stream. */
class SlipLive extends HTMLElement {
  /** @type {EventSource | null} */
  static source = null;
  static connect() {
    SlipLive.source?.close();
    SlipLive.source = null;
    const parts = /** @type {SlipLive[]} */ (all("slip-live[topic]"));
    if (!parts.length || document.hidden) return;
    const topics = [...new Set(parts.map((part) => part.getAttribute("topic") || ""))];
    SlipLive.source = new EventSource(`/events?topics=${encodeURIComponent(topics.join(","))}`);
    SlipLive.source.addEventListener("changed", (event) => {
      for (const part of /** @type {SlipLive[]} */ (all("slip-live[topic]"))) {
        if (part.getAttribute("topic") === /** @type {MessageEvent} */ (event).data) part.refresh();
      }
    });
  }
  connectedCallback() { queueMicrotask(SlipLive.connect); }
  disconnectedCallback() { queueMicrotask(SlipLive.connect); }
  refresh() {
    // Whoever works inside keeps what they see; the next change asks again.
    if (this.matches(":focus-within")) return;
    htmx.ajax("GET", this.getAttribute("src") || location.href, { target: this, swap: this.getAttribute("swap") || "innerHTML" });
  }
}
document.addEventListener("visibilitychange", () => SlipLive.connect());

/** Appends the words of an answer as they arrive: posts its form and reads the event stream that comes back. */
class SlipAsk extends HTMLElement {
  connectedCallback() {
    const form = /** @type {HTMLFormElement} */ (one("form", this));
    const answer = one("[data-answer]", this);
    form.addEventListener("submit", async (event) => {
      if (!answer) return;
      event.preventDefault();
      answer.hidden = false;
      answer.setAttribute("aria-busy", "true");
      const words = Object.assign(document.createElement("p"), { className: "words pad" });
      answer.replaceChildren(words);
      const reply = await fetch(form.action, { method: "POST", body: new URLSearchParams(/** @type {any} */ (new FormData(form))), headers: { Accept: "text/event-stream" } });
      const reader = /** @type {ReadableStream} */ (reply.body).pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        const events = (rest + part.value).split("\n\n");
        rest = events.pop() || "";
        for (const each of events) {
          const kind = /^event: (\w+)$/m.exec(each)?.[1];
          const data = JSON.parse(/^data: (.*)$/m.exec(each)?.[1] || "{}");
          if (kind === "word") words.append(data.text);
          else if (data.html) answer.innerHTML = data.html;
        }
      }
      answer.removeAttribute("aria-busy");
      htmx.process(answer);
    });
  }
}

for (const [name, element] of Object.entries({
  theme: SlipTheme, search: SlipSearch, keys: SlipKeys, queue: SlipQueue, copy: SlipCopy, chart: SlipChart, editor: SlipEditor, range: SlipRange, live: SlipLive, ask: SlipAsk,
})) customElements.define(`slip-${name}`, element);

document.addEventListener("click", (event) => {
  const closing = event.target instanceof Element && event.target.closest("[data-close]");
  const dialog = closing && /** @type {HTMLDialogElement | null} */ (closing.closest("dialog"));
  if (dialog) dialog.close();
  else closing && closing.closest(".notice")?.remove();
});
// An error page that answers a fragment request is shown in the place that asked for it.
document.addEventListener("htmx:beforeSwap", (event) => {
  const detail = /** @type {any} */ (event).detail;
  if (detail.xhr.status >= 400 && detail.xhr.getResponseHeader("X-Slipway-Fragment")) detail.shouldSwap = true;
});
