// What the page does: limits, the variant that is looked at, sorting, sliders and live charts.

const data = JSON.parse(document.getElementById("data").textContent);
const views = {}, rows = [...document.querySelectorAll("#variants tbody tr")];
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
let selected = null;

// Limits -> sentence, table and plot.
const inputs = $$("#limits input");

function readLimits() {
  const limits = {...data.limits};
  for (const input of inputs) {
    const value = input.value.trim() === "" ? null : input.valueAsNumber;
    if (value === null || Number.isFinite(value)) limits[input.name] = value;
  }
  return limits;
}

function follow() {
  const limits = readLimits(), answers = recommend(data.candidates, limits);
  const reasons = new Map(answers.flatMap((one) => one.outside.map((it) => [it.variant, it.reasons])));
  const chosen = new Set(answers.map((one) => one.variant));
  document.getElementById("answers").replaceChildren(...answers.map((one) => {
    const paragraph = document.createElement("p"), name = document.createElement("strong");
    paragraph.className = one.variant === null ? "answer none" : "answer";
    name.textContent = one.variant === null ? "No variant is within the limits." : `Ship ${one.variant}:`;
    paragraph.append(name, one.text.slice(name.textContent.length));
    return paragraph;
  }));
  for (const row of rows) {
    const name = row.dataset.variant, why = reasons.get(name);
    row.classList.toggle("outside", why !== undefined);
    row.classList.toggle("chosen", chosen.has(name));
    row.querySelector(".why").textContent = why ? why.join("; ") : "";
  }
  const said = inputs.filter((input) => input.value.trim() !== "")
    .map((input) => `${input.parentElement.firstChild.textContent}: ${input.value}`);
  document.querySelector("#asked span").textContent = said.join("; ") || "none";
  showInPlot(limits, reasons);
}

function showInPlot(limits, reasons) {
  const view = views.plot, spec = data.charts.plot;
  if (!view) return;
  const bands = spec.layer[0].data.values.map(({top}) => ({top, bottom: top - limits.ap_drop}));
  view.data("rows", spec.data.values.map((row) => ({...row, outside: reasons.has(row.variant)})));
  view.data("bands", limits.ap_drop === null ? [] : bands);
  view.runAsync();
}

for (const input of inputs) input.addEventListener("input", follow);
document.getElementById("limits")?.addEventListener("reset", () => setTimeout(follow));

// The variant that is looked at, everywhere on the page.
function select(name) {
  selected = name === selected ? null : name;
  for (const row of $$("tr[data-variant]")) {
    row.classList.toggle("selected", row.dataset.variant === selected);
  }
  for (const button of $$("button.pick")) {
    button.setAttribute("aria-pressed", String(button.dataset.variant === selected));
  }
  for (const view of Object.values(views)) view.signal("selected", selected).runAsync();
  for (const audit of $$("details.audit")) audit.open = audit.dataset.variant === selected;
  showPeople();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button.pick");
  if (button) select(button.dataset.variant);
});

// Pictures of one variant at a time.
const people = $$("section.people"), choice = document.getElementById("people-of");

function showPeople() {
  if (!choice) return;
  if (people.some((one) => one.dataset.variant === selected)) choice.value = selected;
  for (const one of people) one.hidden = one.dataset.variant !== choice.value;
}

choice?.addEventListener("change", showPeople);
for (const slider of $$(".pair input[type=range]")) {
  const frames = slider.closest(".pair").querySelector(".frames");
  const cut = () => frames.style.setProperty("--cut", `${slider.value}%`);
  slider.addEventListener("input", cut);
  cut();
}

// Tables that are sorted by the column that is pressed.
for (const table of $$("table.sortable")) {
  const heads = $$("thead th", table);
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    button?.addEventListener("click", () => {
      const key = (row) => {
        const cell = row.cells[column], value = cell.dataset.value;
        return value === undefined ? cell.textContent.trim() : value === "" ? null : Number(value);
      };
      const lines = $$("tbody tr", table), before = head.getAttribute("aria-sort");
      const isNumeric = lines.some((row) => typeof key(row) === "number");
      const rises = before ? before === "descending" : !isNumeric;
      lines.sort((one, other) => {
        const [a, b] = [key(one), key(other)];
        if (a === null || b === null) return (a === null) - (b === null);
        return (rises ? 1 : -1) * (isNumeric ? a - b : a.localeCompare(b));
      });
      table.tBodies[0].append(...lines);
      for (const one of heads) one.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", rises ? "ascending" : "descending");
    });
  });
}

// Charts that are drawn again, live, when they come into sight.
async function draw(figure) {
  const name = figure.dataset.chart, place = figure.querySelector(".live");
  try {
    const spec = structuredClone(data.charts[name]);
    spec.width = "container";
    figure.classList.add("drawn");
    const {view} = await vegaEmbed(place, spec, {renderer: "svg", actions: false, ast: false});
    views[name] = view;
    view.signal("selected", selected);
    view.addEventListener("click", (_, item) => {
      if (item?.datum?.variant) select(item.datum.variant);
    });
    await view.runAsync();
    if (name === "plot") follow();
  } catch (error) {
    figure.classList.remove("drawn");
    console.error(`chart ${name}: ${error}`);
  }
}

const sight = new IntersectionObserver((entries) => {
  for (const {isIntersecting, target} of entries) {
    if (isIntersecting) {
      sight.unobserve(target);
      draw(target);
    }
  }
}, {rootMargin: "300px"});
for (const figure of $$("figure[data-chart]")) sight.observe(figure);

// What is folded is printed, too, and folded again.
const folded = new Set();
addEventListener("beforeprint", () => {
  for (const one of $$("details:not([open])")) {
    folded.add(one);
    one.open = true;
  }
});
addEventListener("afterprint", () => {
  for (const one of folded) one.open = false;
  folded.clear();
});

showPeople();
follow();
