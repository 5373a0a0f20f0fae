// The page to explore: what is selected, and how it is selected. One object holds it; whatever changes it goes through
// `select`, which redraws what depends on it, says it in words, and keeps it in the address.
"use strict";

const state = {step: seen.own, cell: -1, neuron: -1, marks: {heldOut: true, influences: true, held: true}};
const element = (id) => document.getElementById(id);

// What depends on which parts of the selection.
const VIEWS = [
  [["step"], showStep],
  [["step"], drawAccuracy],
  [["step", "cell", "neuron", "marks"], drawGrid],
  [["step"], showCounts],
  [["step", "cell"], showCell],
  [["step", "cell"], drawCourse],
  [["cell"], drawContributors],
  [["cell"], drawInfluences],
  [["cell"], drawParts],
  [["neuron"], showNeuron],
  [["neuron"], drawWaves],
  [["neuron"], drawSpectrum],
  [["neuron"], drawMap],
];
// Milliseconds between two changes of the address, of which browsers allow about a hundred in half a minute.
const RARELY = 400;
let waiting = new Set(), addressing = 0, addressedAt = -RARELY;

// Change the selection. Changes within a frame, as while the slider moves, are drawn once.
function select(changes) {
  Object.assign(state, changes);
  if (waiting.size === 0) {
    requestAnimationFrame(redraw);
  }
  Object.keys(changes).forEach((name) => waiting.add(name));
}

function redraw() {
  const changed = waiting;
  waiting = new Set();
  for (const [names, view] of VIEWS) {
    if (names.some((name) => changed.has(name))) {
      view(state);
    }
  }
  for (const id of Object.keys(TABLES)) {
    fillTable(id);
  }
  element("words").textContent = words();
  document.documentElement.dataset.drawn = fragment();
  clearTimeout(addressing);
  addressing = setTimeout(keepInAddress, Math.max(0, addressedAt + RARELY - performance.now()));
}

function keepInAddress() {
  addressedAt = performance.now();
  history.replaceState(null, "", fragment());
}

// The selection in words, which a screen reader reads when it changes.
function words() {
  const parts = [`${stepName(state.step)}.`.replace(/^./, (letter) => letter.toUpperCase())];
  if (state.cell >= 0) {
    const {cell, step} = state;
    const told = [`answers ${answerName(answerOf(cell, step))}`, OUTCOMES[outcomeOf(cell, step)], splitOf(cell)];
    parts.push(`Cell ${cellName(cell)}: ${told.join(", ")}; ${learnedAt(cell)}.`);
  }
  if (state.neuron >= 0) {
    parts.push(`Neuron ${state.neuron}: ${neuronWords(state.neuron)}.`);
  }
  return parts.join(" ");
}

// The selection as the end of the address: #step=118&cell=3,4&neuron=17.
function fragment() {
  const parts = [`step=${seen.steps[state.step] === null ? "given" : seen.steps[state.step]}`];
  if (state.cell >= 0) {
    parts.push(`cell=${operandsOf(state.cell).join(",")}`);
  }
  if (state.neuron >= 0) {
    parts.push(`neuron=${state.neuron}`);
  }
  return `#${parts.join("&")}`;
}

// The selection that an address names; what it does not name, or what does not exist here, is left out.
function named(address) {
  const given = new URLSearchParams(address.replace(/^#/, ""));
  const found = {};
  const step = seen.steps.findIndex((each) => String(each === null ? "given" : each) === given.get("step"));
  const whole = (text) => (/^\d+$/.test(text ?? "") ? Number(text) : -1);
  const [a, b] = (given.get("cell") ?? "").split(",");
  const cell = cellAt(whole(a), whole(b));
  const neuron = whole(given.get("neuron"));
  if (step >= 0) {
    found.step = step;
  }
  if (cell >= 0) {
    found.cell = cell;
  }
  if (neuron >= 0 && neuron < seen.width) {
    found.neuron = neuron;
  }
  return found;
}

// What is selected at first: a cell worth a look, and the neuron that contributes most to it.
function usual() {
  const outcomes = Array.from(seen.outcome.row(seen.own));
  const cell = Math.max(0, outcomes.indexOf(MEMORIZED));
  const neuron = contributed !== null ? contributed.neurons.row(cell)[0] : seen.width > 0 ? 0 : -1;
  return {step: seen.own, cell, neuron};
}

function showStep() {
  element("step").value = state.step;
  element("step").setAttribute("aria-valuetext", stepName(state.step));
  element("step-name").textContent = `${stepName(state.step)} (${state.step + 1} of ${seen.steps.length})`;
  element("accuracies").replaceChildren(...seen.accuracy.map((split) => {
    const [item, mark, value] = ["li", "span", "b"].map((kind) => document.createElement(kind));
    [mark.textContent, value.textContent] = [SIGNS[split.symbol], percent(split.values.values[state.step])];
    mark.style.color = split.color;
    item.append(mark, split.title, value);
    return item;
  }));
}

function showCounts() {
  const counts = [0, 0, 0, 0];
  seen.outcome.row(state.step).forEach((outcome) => counts[outcome]++);
  for (const place of element("outcomes").querySelectorAll("[data-outcome]")) {
    const count = counts[place.dataset.outcome];
    place.hidden = count === 0 && Number(place.dataset.outcome) !== RIGHT;
    place.querySelector("b").textContent = count.toLocaleString("en");
  }
}

// Replace the facts of a list: pairs of a name and a value.
function facts(id, pairs) {
  element(id).replaceChildren(...pairs.map(([name, value]) => {
    const [pair, term, said] = ["div", "dt", "dd"].map((kind) => document.createElement(kind));
    [term.textContent, said.textContent] = [name, value];
    pair.append(term, said);
    return pair;
  }));
}

function showCell() {
  const {cell, step} = state;
  if (cell < 0) {
    return;
  }
  [element("a").value, element("b").value] = operandsOf(cell);
  facts("cell-facts", [
    ["answer", `${answerName(answerOf(cell, step))}, ${OUTCOMES[outcomeOf(cell, step)]}`],
    ["training label", labelOf(seen.given.values[cell], "none")],
    ["true label", labelOf(seen.true.values[cell], "not known")],
    ["split", splitOf(cell)],
    ["learned", learnedAt(cell)],
  ]);
}

function showNeuron() {
  const {neuron} = state, {waves, clusters} = seen;
  if (neuron < 0) {
    return;
  }
  element("neuron").value = neuron;
  const pairs = [];
  if (waves !== null) {
    const error = waves.error.values[neuron], share = waves.share.values[neuron];
    const common = share > waves.threshold ? "above" : "not above";
    pairs.push(["class", seen.neuronClasses[waves.classes.values[neuron]]]);
    pairs.push(["key frequency", waves.key.values[neuron] || "none"]);
    pairs.push(["its share", `${percent(share)}, ${common} the threshold ${percent(waves.threshold)}`]);
    pairs.push(["phase error", Number.isFinite(error) ? `${number(error)} rad` : "–"]);
  }
  if (clusters !== null) {
    const explained = clusters.explained.values.filter((_, place) => place % seen.width === neuron);
    const most = `one frequency explains ${percent(Math.max(...explained))} of its variance`;
    pairs.push(["cluster", `${clusters.cluster.values[neuron] || "none"} (${most})`]);
  }
  const held = heldBy(neuron);
  if (contributed !== null) {
    const most = held.length ? `${held.length} cells marked, most of all ${cellName(held[0].number)}` : "no cell";
    pairs.push(["holds", most]);
  }
  facts("neuron-facts", pairs);
}

// What a click on a figure selects.
const onCell = (cell) => cell >= 0 && select({cell});
const onNeuron = (neuron) => neuron >= 0 && select({neuron});
const CLICKS = {
  accuracy: (point) => select({step: point.pointIndex}),
  course: (point) => point.data.name === "answer" && select({step: point.pointIndex}),
  grid: (point) => onCell(cellAt(point.y, point.x)),
  contributors: (point) => onNeuron(point.customdata),
  influences: (point) => onCell(point.customdata),
  map: (point) => onNeuron(point.customdata),
};

// The nearest cell in a direction, or this one where there is none.
function neighbour(cell, down, across) {
  let [a, b] = operandsOf(Math.max(cell, 0));
  do {
    [a, b] = [a + down, b + across];
    if (cellAt(a, b) >= 0) {
      return cellAt(a, b);
    }
  } while (Math.min(a, b) >= 0 && Math.max(a, b) < seen.symbols);
  return cell;
}

function endOfRow(cell, last) {
  const [a] = operandsOf(Math.max(cell, 0));
  const row = Array.from({length: seen.symbols}, (_, b) => cellAt(a, b)).filter((each) => each >= 0);
  return last ? row.at(-1) : row[0];
}

const CELL_KEYS = {
  ArrowUp: (cell) => neighbour(cell, -1, 0),
  ArrowDown: (cell) => neighbour(cell, 1, 0),
  ArrowLeft: (cell) => neighbour(cell, 0, -1),
  ArrowRight: (cell) => neighbour(cell, 0, 1),
  Home: (cell) => endOfRow(cell, false),
  End: (cell) => endOfRow(cell, true),
};
const NEURON_KEYS = {
  ArrowLeft: (place) => place - 1,
  ArrowRight: (place) => place + 1,
  Home: () => 0,
  End: () => seen.width - 1,
};

// Have keys in a figure select; a key with a modifier is the browser's.
function listen(id, keys, act) {
  element(id).addEventListener("keydown", (event) => {
    if (event.key in keys && !event.altKey && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      act(keys[event.key]);
    }
  });
}

// Select by a number input; a number that names nothing is marked as wrong, and changes nothing.
function listenToNumbers(ids, read) {
  for (const id of ids) {
    element(id).addEventListener("input", () => {
      const changes = read(...ids.map((each) => element(each).valueAsNumber));
      ids.forEach((each) => element(each).setAttribute("aria-invalid", String(changes === null)));
      if (changes !== null) {
        select(changes);
      }
    });
  }
}

listen("grid", CELL_KEYS, (move) => select({cell: move(state.cell)}));
listen("map", NEURON_KEYS, (move) => {
  const order = Array.from(seen.map.order.values);
  select({neuron: order[Math.max(0, Math.min(seen.width - 1, move(order.indexOf(state.neuron))))]});
});
listenToNumbers(["a", "b"], (a, b) => (cellAt(a, b) < 0 ? null : {cell: cellAt(a, b)}));
listenToNumbers(["neuron"], (neuron) =>
  (Number.isInteger(neuron) && neuron >= 0 && neuron < seen.width ? {neuron} : null));
element("step").addEventListener("input", (event) => select({step: event.target.valueAsNumber}));
for (const box of document.querySelectorAll("[data-marks]")) {
  box.addEventListener("change", () => select({marks: {...state.marks, [box.dataset.marks]: box.checked}}));
}
for (const id of Object.keys(TABLES)) {
  element(`${id}-table`).addEventListener("toggle", () => fillTable(id));
}
addEventListener("hashchange", () => select({...usual(), ...named(location.hash)}));
// The grid stays square.
addEventListener("resize", () => select({marks: state.marks}));
select({...usual(), ...named(location.hash), marks: state.marks});
