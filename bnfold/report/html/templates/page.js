"use strict";
const unpacked = async (text) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
};
const libraries = {};
const library = (name) =>
  (libraries[name] ??= unpacked(document.getElementById(name).textContent).then((text) =>
    import(URL.createObjectURL(new Blob([text], { type: "text/javascript" }))),
  ));

// Graphviz comes as an anywidget, whose model is a few settings and who listens to them; one is drawn after the other.
let drawing = Promise.resolve();
const draw = (place) => {
  const settings = { dot_source: place.dataset.dot, enable_zoom: false, selected_direction: "bidirectional" };
  const model = { get: (name) => settings[name], on() {} };
  drawing = drawing.then(async () => {
    const { default: graphs } = await library("graphs");
    await graphs.render({ model, el: place });
    const svg = place.querySelector("svg");
    const box = svg.viewBox.baseVal;
    svg.removeAttribute("height");
    svg.setAttribute("width", Math.round((box.width * 4) / 3));
    svg.setAttribute("aria-hidden", "true"); // its place has the words
    for (const part of svg.querySelectorAll("[id]")) part.removeAttribute("id"); // every drawing has the same ones
    place.classList.add("drawn");
  });
  return drawing;
};
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((each) => each.isIntersecting)) {
    seen.unobserve(entry.target);
    draw(entry.target).catch((error) => {
      entry.target.textContent = entry.target.dataset.words;
      console.error(error);
    });
  }
}, { rootMargin: "200px" });

const open = async (table, row) => {
  const button = row.querySelector("button");
  const child = table.row(row).child;
  if (child.isShown()) {
    child.hide();
    button.setAttribute("aria-expanded", "false");
    return;
  }
  if (!child()) {
    const content = document.createElement("div");
    content.innerHTML = await unpacked(row.dataset.inside);
    child(content, "child");
  }
  child.show();
  button.setAttribute("aria-expanded", "true");
  for (const place of row.nextElementSibling.querySelectorAll("[data-dot]:not(.drawn)")) seen.observe(place);
};

const begin = async () => {
  const { default: DataTable } = await library("tables");
  const opened = [];
  for (const element of document.querySelectorAll("table.data")) {
    const { noun } = element.dataset;
    const rows = element.tBodies[0].rows.length;
    const title = element.caption.textContent;
    const table = new DataTable(element, {
      order: [],
      paging: rows > 25,
      pageLength: 25,
      lengthMenu: [25, 100, 500],
      searching: rows > 4,
      info: rows > 25,
      ordering: rows > 1,
      autoWidth: false,
      layout: { topStart: rows > 4 ? "search" : null, topEnd: null, bottomStart: rows > 25 ? "info" : null, bottomEnd: rows > 25 ? "paging" : null },
      language: {
        search: "",
        searchPlaceholder: `Find a ${noun}`,
        info: `_START_ to _END_ of _TOTAL_ ${noun}s`,
        infoEmpty: "",
        infoFiltered: "(of _MAX_)",
        zeroRecords: `No ${noun} fits.`,
      },
    });
    element.closest(".scroll").querySelector("input[type=search]")?.setAttribute("aria-label", `Find a ${noun} in: ${title}`);
    element.addEventListener("click", (event) => {
      const button = event.target.closest("td.opener button");
      if (button) open(table, button.closest("tr"));
    });
    for (const row of element.querySelectorAll("tr[data-opened]")) opened.push(open(table, row));
  }
  await Promise.all(opened);
  document.documentElement.dataset.ready = "";
};

const tip = document.getElementById("tip");
document.addEventListener("pointermove", (event) => {
  const mark = event.target.closest?.(".chart [aria-roledescription]:not([aria-roledescription='axis'])");
  const words = mark?.getAttribute("role") === "graphics-symbol" ? mark.getAttribute("aria-label") : null;
  tip.hidden = !words;
  if (!words) return;
  tip.textContent = words;
  const left = Math.min(event.clientX + 12, document.documentElement.clientWidth - tip.offsetWidth - 8);
  tip.style.translate = `${Math.max(8, left)}px ${event.clientY + 16}px`;
});

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark", dark.matches);
dark.addEventListener("change", follow);
follow();
begin();
