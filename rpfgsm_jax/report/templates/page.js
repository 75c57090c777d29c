
"use strict";
(() => {
  const FILTERED = 6; // rows from which on a table gets a filter

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  // Rows without a rank have nothing to sort by and stay last, whatever the direction.
  function sortRows(body, column, direction) {
    const keyed = Array.from(body.rows, (row) => [row.cells[column].dataset.rank, row]);
    keyed.sort(([a], [b]) => {
      if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
      return direction * (Number(a) - Number(b));
    });
    const table = body.parentNode;
    body.remove(); // rows of a table that is shown move thirty times slower
    body.replaceChildren(...keyed.map(([, row]) => row));
    table.append(body);
  }

  function makeSortable(table) {
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, column) => {
      const button = make("button", { type: "button" }, ...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const ascending = head.getAttribute("aria-sort") !== "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        sortRows(table.tBodies[0], column, ascending ? 1 : -1);
      });
    });
  }

  function makeFilterable(table) {
    const rows = Array.from(table.tBodies[0].rows);
    if (rows.length < FILTERED) return;
    const texts = rows.map((row) =>
      Array.from(row.cells, (cell) => cell.textContent).join("\n").toLowerCase());
    const input = make("input", { type: "search", autocomplete: "off", spellcheck: "false" });
    const count = make("output", { class: "count" });
    const show = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, index) => {
        row.hidden = !words.every((word) => texts[index].includes(word));
        shown += !row.hidden;
      });
      count.textContent = words.length ? `${shown} of ${rows.length} rows` : `${rows.length} rows`;
    };
    input.addEventListener("input", show);
    show();
    const label = make("label", {}, "Filter rows: ", input);
    table.parentElement.before(make("div", { class: "filter" }, label, count));
  }

  // The difference is a third picture, or the browser makes it of the two; or there is none.
  function makeDifference(frame, images, times) {
    const [, , own] = images;
    if (own) own.classList.add("change");
    frame.style.setProperty("--amplification", times);
    const button = make(
      "button", { type: "button", "aria-pressed": "false" }, `difference × ${times}`);
    button.addEventListener("click", () => {
      const on = frame.classList.toggle("difference");
      frame.classList.toggle("blended", on && !own);
      button.setAttribute("aria-pressed", String(on));
    });
    return button;
  }

  function makeComparable(views) {
    const times = views.dataset.amplification;
    const images = views.querySelectorAll("img");
    const [before, after] = Array.from(views.querySelectorAll("figcaption"), (c) => c.textContent);
    const slider = make("input", {
      type: "range", min: "0", max: "100", step: "1", value: "50", autocomplete: "off",
      "aria-label": `How much of the picture shows: ${before}`,
    });
    const stack = make("div", { class: "stack" }, ...images);
    const frame = make("div", { class: "frame" }, stack, slider, make("span", { class: "cut" }));
    const slide = () => {
      frame.style.setProperty("--cut", `${slider.value}%`);
      slider.setAttribute(
        "aria-valuetext", `${slider.value} % ${before}, ${100 - slider.value} % ${after}`);
    };
    slider.addEventListener("input", slide);
    slide();
    const legend = make(
      "p", { class: "legend" }, make("span", {}, `◀ ${before}`), make("span", {}, `${after} ▶`));
    const controls = make("div", { class: "controls" });
    if (times) controls.append(makeDifference(frame, images, times));
    // Many comparisons have the same controls: the heading tells them apart.
    const title = views.closest("section").getAttribute("aria-labelledby");
    for (const control of [slider, ...controls.children]) {
      control.setAttribute("aria-describedby", title);
    }
    views.replaceChildren(make("div", {}, frame, legend, controls));
  }

  function enhance(root) {
    root.querySelectorAll("table:not(.fixed)").forEach((table) => {
      makeSortable(table);
      makeFilterable(table);
    });
    root.querySelectorAll(".views").forEach(makeComparable);
  }

  enhance(document);
  // Where sections come later, whoever brings them says so.
  document.addEventListener("sections", (event) => enhance(event.target));
})();
