"use strict";
// Sorts, filters and exports the table of a page. The state is in the address, after the #.
(() => {
  const root = document.documentElement;
  const THEME = "htbench-theme";
  const STATE = ["sort", "dir", "metric", "filter", "costs"];

  // --- theme, before the page is drawn ---------------------------------------------------------

  function storedTheme() {
    try { return localStorage.getItem(THEME); } catch { return null; }
  }

  function showTheme(theme) {
    if (theme === "dark" || theme === "light") root.dataset.theme = theme;
  }

  function isDark() {
    return root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  function addThemeButton() {
    const button = document.getElementById("theme");
    const name = () => { button.textContent = isDark() ? "Light" : "Dark"; };
    button.hidden = false;
    name();
    button.addEventListener("click", () => {
      showTheme(isDark() ? "light" : "dark");
      try { localStorage.setItem(THEME, root.dataset.theme); } catch { /* not kept */ }
      name();
    });
  }

  // --- the state in the address ----------------------------------------------------------------

  let state = {};

  // Links such as #main and #tasks keep the state.
  function readState() {
    if (location.hash.includes("=")) {
      state = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
    }
  }

  function writeState(changes) {
    state = { ...state, ...changes };
    const params = new URLSearchParams();
    for (const name of STATE) if (state[name]) params.set(name, state[name]);
    history.replaceState(null, "", "#" + params);
  }

  // --- the table -------------------------------------------------------------------------------

  function addTable(table) {
    const headings = [...table.tHead.rows[0].cells];
    const keys = headings.map((heading) => heading.dataset.key);
    const rows = [...table.tBodies].flatMap((body) => [...body.rows]);
    const names = new Map(rows.map((row) => [row, row.querySelector("th a").textContent]));
    const controls = Object.fromEntries(
      ["table", "task", "metric", "filter", "costs", "csv", "count"]
        .map((id) => [id, document.getElementById(id)]));
    const known = (key) => key !== undefined && keys.includes(key);
    const first = headings.find((heading) => heading.getAttribute("aria-sort") === "descending").dataset.key;

    function valueOf(row, index) {
      if (keys[index] === "method") return names.get(row);
      const text = row.cells[index].dataset.v;
      return text === "" ? null : Number(text);
    }

    function compare(a, b, sign) {
      if (a === null || b === null) return (a === null) - (b === null); // no value: last
      return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
    }

    // Text, ranks and disruption are read from the smallest.
    function usual(key) {
      return key === "method" || key === "rank" || key.startsWith("disruption")
        ? "ascending" : "descending";
    }

    function sort(key, direction) {
      const index = keys.indexOf(key);
      const sign = direction === "ascending" ? 1 : -1;
      for (const body of table.tBodies) { // oracles stay below
        const sorted = [...body.rows].map((row) => [valueOf(row, index), row]);
        sorted.sort(([a, one], [b, two]) =>
          compare(a, b, sign) || names.get(one).localeCompare(names.get(two)));
        body.append(...sorted.map(([, row]) => row));
      }
      for (const heading of headings) {
        if (heading.dataset.key) {
          heading.setAttribute("aria-sort", heading.dataset.key === key ? direction : "none");
        }
      }
    }

    // The shading changes with the rank, from one row on screen to the next.
    function shade() {
      const index = keys.indexOf("rank");
      if (index < 0) return;
      let [dark, previous] = [true, ""];
      for (const row of [...table.tBodies].flatMap((body) => [...body.rows])) {
        const rank = row.cells[index].dataset.v;
        if (row.hidden || rank === "") continue;
        if (rank !== previous) [dark, previous] = [!dark, rank];
        row.classList.toggle("tie0", !dark);
        row.classList.toggle("tie1", dark);
      }
    }

    function filter(text) {
      const words = text.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const [row, name] of names) {
        row.hidden = !words.every((word) => name.toLowerCase().includes(word));
        shown += !row.hidden;
      }
      controls.count.value = shown === rows.length
        ? `${rows.length} methods` : `${shown} of ${rows.length} methods`;
      shade();
    }

    function draw(metric) {
      for (const svg of table.querySelectorAll("svg[data-m]")) {
        svg.toggleAttribute("hidden", svg.dataset.m !== metric);
      }
    }

    function show() {
      const key = known(state.sort) ? state.sort : first;
      const direction = ["ascending", "descending"].includes(state.dir) ? state.dir : usual(key);
      const metrics = [...controls.metric.options].map((option) => option.value);
      controls.metric.value = metrics.includes(state.metric) ? state.metric : metrics[0];
      controls.filter.value = state.filter ?? "";
      controls.costs.checked = state.costs === "1";
      table.classList.toggle("costs", controls.costs.checked);
      sort(key, direction);
      draw(controls.metric.value);
      filter(controls.filter.value);
    }

    function csv() {
      const quote = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
      const shown = keys.map((key, index) => index)
        .filter((index) => keys[index] && getComputedStyle(headings[index]).display !== "none");
      const isSampled = (index) => rows.some((row) => "h" in row.cells[index].dataset);
      const lines = [shown.flatMap((index) =>
        isSampled(index) ? [keys[index], `${keys[index]}_half`] : [keys[index]])];
      for (const row of table.rows) {
        if (row.parentNode === table.tHead || row.hidden) continue;
        lines.push(shown.flatMap((index) => {
          const data = row.cells[index].dataset;
          const value = keys[index] === "method" ? names.get(row) : data.v;
          return isSampled(index) ? [value, data.h ?? ""] : [value];
        }));
      }
      return lines.map((line) => line.map(quote).join(",")).join("\n") + "\n";
    }

    function download() {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
      link.download = `${table.dataset.name.replace(/[^A-Za-z0-9+]+/g, "-")}.csv`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    }

    for (const heading of headings) {
      heading.querySelector("button")?.addEventListener("click", () => {
        const key = heading.dataset.key;
        const now = heading.getAttribute("aria-sort");
        const other = now === "ascending" ? "descending" : "ascending";
        writeState({ sort: key, dir: now === "none" ? usual(key) : other });
        show();
      });
    }
    for (const select of [controls.table, controls.task]) {
      select?.addEventListener("change", () => {
        location.href = select.value + (location.hash.includes("=") ? location.hash : "");
      });
    }
    controls.metric.addEventListener("change", () => {
      writeState({ metric: controls.metric.value, sort: controls.metric.value, dir: "" });
      show();
    });
    controls.filter.addEventListener("input", () => {
      writeState({ filter: controls.filter.value });
      filter(controls.filter.value);
    });
    controls.costs.addEventListener("change", () => {
      writeState({ costs: controls.costs.checked ? "1" : "" });
      table.classList.toggle("costs", controls.costs.checked);
    });
    controls.csv.addEventListener("click", download);
    const form = document.getElementById("controls");
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    const follow = () => {
      readState();
      if (!followTask(controls.task)) show();
    };
    window.addEventListener("hashchange", follow);
    follow();
  }

  // A link such as index.html#task=NAME&sort=seen opens the page of that task.
  function followTask(select) {
    const { task, ...rest } = state;
    const option = [...select.options].find((each) => each.dataset.task === task);
    if (!option || option.defaultSelected) return false;
    location.replace(`${option.value}#${new URLSearchParams(rest)}`);
    return true;
  }

  showTheme(storedTheme());
  document.addEventListener("DOMContentLoaded", () => {
    addThemeButton();
    const table = document.getElementById("ranking");
    if (table) addTable(table);
  });
})();
