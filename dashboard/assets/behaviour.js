// Links that keep the scenario, light and dark, saving figures and tables: nothing leaves the page.
window.dash_clientside = window.dash_clientside || {};
window.dash_clientside.shardwise = {
  // Fields of a framework are set in the address, and the page is built anew from there.
  framework(chosen) {
    const same = window.dash_clientside.no_update;
    if (!chosen) return [same, same];
    const stated = new URLSearchParams(window.location.search);
    for (const [path, value] of new URLSearchParams(chosen)) stated.set(path, value);
    const search = "?" + stated.toString();
    return [search, { pathname: window.location.pathname, search, at: Date.now() }];
  },
  // Which number is explained, and of which scenario; nothing is asked for while none is.
  explain(clicks, closed, query, explained) {
    const triggered = window.dash_clientside.callback_context.triggered;
    const same = window.dash_clientside.no_update;
    const isOpen = Boolean(explained && explained.path);
    // Numbers that appear count as triggers too, without a click.
    const given = triggered.find((entry) => entry.value && entry.prop_id.endsWith(".n_clicks"));
    if (!given) return isOpen && explained.query !== query ? { path: explained.path, query } : same;
    const name = given.prop_id.slice(0, given.prop_id.lastIndexOf("."));
    if (name === "close-panel") return isOpen ? { path: "" } : same;
    return { path: JSON.parse(name).path, query };
  },
  links(search, pathname, ids) {
    const kept = new URLSearchParams(search || "");
    for (const key of [...kept.keys()]) if (key.startsWith("view.")) kept.delete(key);
    const query = kept.toString();
    return [
      ids.map((id) => id.path + (query ? "?" + query : "")),
      ids.map((id) => "nav-link" + (id.path === pathname ? " here" : "")),
    ];
  },
};

(function () {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  function chosen() {
    try { return localStorage.getItem("shardwise-theme"); } catch (error) { return null; }
  }
  function show() {
    const theme = chosen() || (dark.matches ? "dark" : "light");
    root.dataset.theme = theme;
  }
  show();
  dark.addEventListener("change", show);

  // Parts of controls that take the focus without a name of their own get that of their field.
  function name() {
    const nameless = ".dash-dropdown-focus-target[aria-hidden], [role=slider]:not([aria-label])";
    for (const part of document.querySelectorAll(nameless)) {
      const field = part.closest("[role=group]");
      const shown = part.parentElement.querySelector(".dash-dropdown-value");
      const said = [field && field.getAttribute("aria-label"), shown && shown.textContent];
      part.removeAttribute("aria-hidden");
      part.setAttribute("aria-label", said.filter(Boolean).join(": ") || "value");
    }
    const file = document.querySelector("#upload input[type=file]:not([aria-label])");
    if (file) file.setAttribute("aria-label", "a scenario file, or a model's config.json");
  }
  new MutationObserver(name).observe(root, { childList: true, subtree: true });

  window.addEventListener("popstate", () => {
    if (!window.dash_clientside.set_props) return;
    const { pathname, search } = window.location;
    window.dash_clientside.set_props("moved", { data: { pathname, search, at: Date.now() } });
  });

  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
  function cell(element) {
    let text = element.textContent.trim();
    const number = element.querySelector("[data-value]");
    if (number && !/^[\[{"]/.test(number.dataset.value)) text = number.dataset.value;
    // A spreadsheet would run what begins like a formula.
    else if (/^[=+\-@\t]/.test(text) && isNaN(Number(text))) text = "'" + text;
    return /[",\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.id === "theme") {
      const next = root.dataset.theme === "dark" ? "light" : "dark";
      try { localStorage.setItem("shardwise-theme", next); } catch (error) { /* not kept */ }
      root.dataset.theme = next;
    }
    if (button.dataset.number)
      window.dash_clientside.set_props({ name: "number", type: "view" }, { value: button.dataset.number });
    if (button.dataset.figure) {
      const graph = document.querySelector(`[id="${CSS.escape(button.dataset.figure)}"] .js-plotly-plot`);
      if (graph && window.Plotly)
        window.Plotly.downloadImage(graph, {
          format: button.dataset.format, filename: button.dataset.figure,
          width: graph.clientWidth, height: graph.clientHeight, scale: 2,
        });
    }
    if (button.dataset.table) {
      const rows = [...document.getElementById(button.dataset.table).rows];
      const text = rows.map((row) => [...row.cells].map(cell).join(",")).join("\r\n");
      save(new Blob([text + "\r\n"], { type: "text/csv" }), button.dataset.name + ".csv");
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const frame = document.getElementById("panel-frame");
    if (frame && !frame.classList.contains("closed")) document.getElementById("close-panel").click();
  });
})();
