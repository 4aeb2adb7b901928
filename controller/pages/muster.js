// What the pages do in the browser: patch what changed, write figures as people do, keep the address true.
(() => {
  const plain = (v, most = 2) => String(+v.toFixed(most));
  const format = {
    money: (v) => "$" + (Math.abs(v) >= 1000 ? Math.round(v).toLocaleString("en") : plain(v)),
    watts: (v) => (Math.abs(v) >= 1e6 ? plain(v / 1e6) + " MW" : Math.abs(v) >= 1000 ? plain(v / 1000) + " kW" : Math.round(v) + " W"),
    seconds: (v) => (v === 0 ? "0" : Math.abs(v) < 1 ? plain(v * 1000, v < 0.1 ? 1 : 0) + " ms" : Math.abs(v) < 120 ? plain(v) + " s" : plain(v / 60, 1) + " min"),
    rate: (v) => plain(v) + "/s",
    percent: (v) => plain(v * 100, 1) + " %",
    celsius: (v) => Math.round(v) + " °C",
    count: (v) => plain(v),
  };
  const two = (n) => String(n).padStart(2, "0");
  const clock = (ms) => { const d = new Date(ms); return `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}`; };
  const day = (ms) => new Date(ms).toLocaleDateString("en", { weekday: "short", day: "numeric", month: "short", timeZone: "UTC" });
  const escaped = (s) => String(s).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

  // Make an element's content that of some HTML, touching only what differs: focus, scrolling and hovering stay.
  function morph(node, want) {
    for (const { name } of [...node.attributes]) if (!want.hasAttribute(name) && name !== "open") node.removeAttribute(name); // what somebody opened stays so
    for (const { name, value } of want.attributes) if (node.getAttribute(name) !== value) node.setAttribute(name, value);
    inside(node, want);
  }
  function inside(node, want) {
    const have = [...node.childNodes], next = [...want.childNodes];
    next.forEach((one, i) => {
      const old = have[i];
      if (!old) node.appendChild(one);
      else if (old.nodeType !== one.nodeType || old.nodeName !== one.nodeName || (old.id || "") !== (one.id || "")) node.replaceChild(one, old);
      else if (old.nodeType === 1) morph(old, one);
      else if (old.data !== one.data) old.data = one.data;
    });
    have.slice(next.length).forEach((one) => one.remove());
  }
  function html(id, text) {
    const node = document.getElementById(id);
    if (!node) return;
    const holder = document.createElement("template");
    holder.innerHTML = text;
    inside(node, holder.content);
  }

  // A chart gets the points that are new; `drop` are gone in front, `keep` stay.
  function chart(id, patch) {
    const made = getElement(id)?.chart;
    if (!made) return;
    const now = made.getOption();
    made.setOption({
      xAxis: { min: patch.min, max: patch.max },
      series: patch.series.map(([drop, keep, tail], i) => ({ data: now.series[i].data.slice(drop, drop + keep).concat(tail) })),
    });
  }
  function apply(changes) {
    for (const [id, text] of changes.html) html(id, text);
    for (const [id, patch] of changes.charts) chart(id, patch);
  }
  function query(key, value) {
    const url = new URL(location);
    if (value) url.searchParams.set(key, value); else url.searchParams.delete(key);
    history.replaceState(history.state, "", url);
  }
  function tooltip(unit) {
    return (rows) => {
      const list = Array.isArray(rows) ? rows : [rows];
      if (!list.length) return "";
      const head = `<div style="margin-bottom:4px;opacity:.75">${day(list[0].axisValue)} ${clock(list[0].axisValue)} UTC</div>`;
      return head + list.filter((r) => r.value[1] != null).map((r) =>
        `<div style="display:flex;gap:14px;justify-content:space-between"><span>${r.marker}${escaped(r.seriesName)}</span><b>${format[unit](r.value[1])}</b></div>`).join("");
    };
  }
  setInterval(() => {
    const on = !window.socket || window.socket.connected;
    document.querySelectorAll(".m-state").forEach((one) => one.classList.toggle("m-off", !on));
  }, 1000);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { document.querySelectorAll("details.m-pop[open]").forEach((one) => { one.open = false; one.querySelector("summary").focus(); }); }
    if (event.key === "Escape") document.querySelector(".m-drawer.open [data-close]")?.click();
    if (event.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) && !event.target.isContentEditable) {
      const box = document.querySelector("[data-search]");
      if (box) { event.preventDefault(); box.focus(); }
    }
  });

  // Completion from the schema: `known` has the fields below each path, `[]` for entries of a list.
  function path(doc, line) {
    const indent = (text) => text.match(/^ */)[0].length;
    const here = doc.line(line).text, parts = [];
    let depth = indent(here) + (/^ *- /.test(here) ? 2 : 0), list = /^ *- /.test(here);
    for (let n = line - 1; n >= 1 && depth > 0; n--) {
      const text = doc.line(n).text;
      if (!text.trim() || /^\s*#/.test(text)) continue;
      const own = indent(text) + (/^ *- /.test(text) ? 2 : 0);
      if (/^ *- /.test(text) && own === depth && !list) { list = true; continue; }
      const key = text.match(/^ *(?:- )?([\w.-]+):/);
      if (key && (own < depth - (list ? 2 : 0) || (list && own <= depth - 2))) { parts.unshift(key[1] + (list ? "[]" : "")); depth = own; list = /^ *- /.test(text); }
    }
    return parts.join(".");
  }
  let waiting = [], marked = (rows) => { waiting = rows; };
  const faults = (rows) => marked(rows);
  async function complete(id, known) {
    const CM = await import("nicegui-codemirror");
    const editor = getElement(id).editor ?? (await getElement(id).editorPromise, getElement(id).editor);
    const source = (context) => {
      const line = context.state.doc.lineAt(context.pos);
      const before = line.text.slice(0, context.pos - line.from);
      const value = before.match(/^ *(?:- )?([\w]+): *([\w.-]*)$/) || before.match(/[{,] *([\w]+): *([\w.-]*)$/);
      let place = path(context.state.doc, line.number);
      const flow = before.match(/^ *(?:- )?(?:([\w]+): *)?\{.*$/);
      if (flow) place = [place, flow[1]].filter(Boolean).join(".");
      if (value && /: *[\w.-]*$/.test(before)) {
        const row = (known[place] || []).find((one) => one.name === value[1]);
        return row && row.values.length ? { from: context.pos - value[2].length, options: row.values.map((v) => ({ label: v, type: "enum" })) } : null;
      }
      const word = before.match(/[\w]*$/)[0];
      if (!context.explicit && !word) return null;
      if (!/^ *(- )?[\w]*$/.test(before) && !/[{,] *[\w]*$/.test(before)) return null;
      const options = (known[place] || []).map((one) => ({ label: one.name, apply: flow ? one.name + ": " : one.apply, detail: one.kind, info: one.words, type: "property" }));
      return options.length ? { from: context.pos - word.length, options, validFor: /^\w*$/ } : null;
    };
    // Faults are marked here, and not by the server: an update from there would bring back the text that it last saw.
    const mark = CM.StateEffect.define();
    const marks = CM.StateField.define({
      create: () => CM.Decoration.none,
      update: (set, change) => change.effects.reduce((now, one) => (one.is(mark) ? one.value : now), set.map(change.changes)),
      provide: (field) => CM.EditorView.decorations.from(field),
    });
    const data = CM.EditorState.languageData.of(() => [{ autocomplete: source }]);
    editor.dispatch({ effects: CM.StateEffect.appendConfig.of([data, marks]) });
    editor.contentDOM.setAttribute("aria-label", "Service as YAML");
    marked = (rows) => {
      const doc = editor.state.doc, seen = new Map(rows.map(([line, words]) => [Math.min(line, doc.lines), words]));
      const made = [...seen].sort(([a], [b]) => a - b).map(([line, words]) =>
        CM.Decoration.line({ class: "m-fault", attributes: { title: words } }).range(doc.line(line).from));
      editor.dispatch({ effects: mark.of(CM.Decoration.set(made)) });
    };
    marked(waiting);
  }
  function line(id, number) {
    const editor = getElement(id)?.editor;
    if (!editor || number > editor.state.doc.lines) return;
    editor.dispatch({ selection: { anchor: editor.state.doc.line(number).to }, scrollIntoView: true });
    editor.focus();
  }
  // The form shows what is written; where somebody types it is left alone.
  function fill(values, wrong, note) {
    for (const input of document.querySelectorAll("#by-form .m-input")) {
      const id = input.id.slice(2), said = document.getElementById(input.id + "-wrong");
      input.disabled = values === null;
      if (values && input !== document.activeElement) input.value = values[id];
      input.setAttribute("aria-invalid", id in wrong);
      said.textContent = wrong[id] || "";
    }
    document.getElementById("f-note").textContent = note;
  }
  function side(name) {
    for (const one of ["form", "yaml"]) {
      document.getElementById("by-" + one).style.display = one === name ? "" : "none";
      document.getElementById("tab-" + one).setAttribute("aria-pressed", one === name);
    }
    document.body.dataset.side = name;
    query("by", name === "form" ? "" : name);
  }
  let left = null;  // where the keyboard was when the panel opened
  document.addEventListener("click", (event) => { const tile = event.target.closest?.(".m-tile"); if (tile) left = tile.id; });
  const back = () => left && document.getElementById(left)?.focus();
  window.addEventListener("load", () => { if (document.getElementById("by-yaml") && new URL(location).searchParams.get("by") === "yaml") side("yaml"); });
  window.muster = { apply, format, tooltip, clock, query, complete, faults, line, fill, side, back };
})();
