// What the page to explore shows, read from the packed numbers in it.
"use strict";

const MISSING = -32768; // of a number with a fraction

// Unpack one array: whole numbers as they are, numbers with a fraction times their scale.
function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed.data), (letter) => letter.charCodeAt(0));
  const kinds = {uint8: Uint8Array, uint16: Uint16Array, int16: Int16Array, int32: Int32Array};
  const whole = new kinds[packed.type](bytes.buffer);
  const values = packed.scale === undefined
    ? whole
    : Float32Array.from(whole, (number) => (number === MISSING ? NaN : number * packed.scale));
  const [, ...inner] = packed.shape;
  const size = inner.reduce((product, length) => product * length, 1);
  return {values, shape: packed.shape, row: (number) => values.subarray(number * size, (number + 1) * size)};
}

// Unpack every array in a nested object.
function unpackAll(value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    return Array.isArray(value) ? value.map(unpackAll) : value;
  }
  if (typeof value.data === "string" && value.shape !== undefined) {
    return unpack(value);
  }
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, unpackAll(inner)]));
}

const seen = unpackAll(JSON.parse(document.getElementById("explored").textContent));
const OUTCOMES = ["right", "memorized", "otherwise wrong", "truth not known"];
const SPLITS = ["trained on", "held out", "in neither set"];
const [RIGHT, MEMORIZED] = [0, 1];

// The number of the cell at (a, b), or -1 where there is none.
const cellAt = (() => {
  const numbers = new Int32Array(seen.symbols ** 2).fill(-1);
  for (let cell = 0; cell < seen.given.values.length; cell++) {
    const [a, b] = seen.operands.row(cell);
    numbers[a * seen.symbols + b] = cell;
  }
  const inside = (symbol) => Number.isInteger(symbol) && symbol >= 0 && symbol < seen.symbols;
  return (a, b) => (inside(a) && inside(b) ? numbers[a * seen.symbols + b] : -1);
})();

const cellCount = seen.given.values.length;
const operandsOf = (cell) => Array.from(seen.operands.row(cell));
const answerOf = (cell, step) => seen.answers.row(step)[cell];
const outcomeOf = (cell, step) => seen.outcome.row(step)[cell];
const splitOf = (cell) => SPLITS[seen.split.values[cell]];
const className = (label) => (seen.classNames === null ? String(label) : seen.classNames[label]);
const labelOf = (label, none) => (label < 0 ? none : className(label));
const answerName = (label) => labelOf(label, "none");
const stepName = (step) => (seen.steps[step] === null ? "the network as given" : `step ${seen.steps[step]}`);
const contributed = seen.contributions;

function cellName(cell) {
  const [a, b] = operandsOf(cell);
  return seen.sign ? `${a} ${seen.sign} ${b}` : `(${a}, ${b})`;
}

// The step from which on a cell is answered with its label, in words.
function learnedAt(cell) {
  const label = seen.given.values[cell] < 0 ? seen.true.values[cell] : seen.given.values[cell];
  const kind = seen.given.values[cell] < 0 ? "true label" : "training label";
  if (label < 0) {
    return "its label is not known";
  }
  const fitted = seen.fitted.values[cell];
  if (fitted < 0) {
    return `does not have its ${kind} at the end`;
  }
  return seen.steps.length === 1 ? `has its ${kind}` : `has its ${kind} from ${stepName(fitted)} on`;
}

// Pairs of number and value, without those of numbers below 0.
function pairs(numbers, values) {
  return Array.from(numbers, (number, rank) => ({number, value: values[rank]})).filter((pair) => pair.number >= 0);
}

const influencesOf = (cell) =>
  seen.influences === null || cell < 0 ? [] : pairs(seen.influences.sources.row(cell), seen.influences.share.row(cell));
const heldBy = (neuron) =>
  contributed === null || neuron < 0 ? [] : pairs(contributed.held.row(neuron), contributed.held_values.row(neuron));

// Neurons for and against a cell's answer, with what the rest of them and the bias add.
function contributionsTo(cell) {
  const each = pairs(contributed.neurons.row(cell), contributed.values.row(cell));
  const others = seen.width - each.length;
  const rest = {number: -1, name: `${others} other${others === 1 ? "" : "s"}`, value: contributed.rest.values[cell]};
  const bias = {number: -1, name: "bias", value: contributed.bias.values[cell]};
  const named = each.map((pair) => ({...pair, name: `neuron ${pair.number}`}));
  const sums = [...(others > 0 ? [rest] : []), ...(bias.value === 0 ? [] : [bias])];
  return [...named.filter((pair) => pair.value >= 0), ...sums, ...named.filter((pair) => pair.value < 0)];
}

// The logits of a cell by class, and their parts; parts is empty where the network or the cell has none.
function logitsOf(cell) {
  const total = seen.logits.row(cell);
  const place = seen.parts === null ? [-1, -1, -1] : seen.parts.place.row(cell);
  if (place[0] < 0) {
    return {total, parts: []};
  }
  const {row, column, rule} = seen.parts.parts;
  const known = [row.row(place[0]), column.row(place[1]), rule.row(place[2])];
  const remainder = total.map((value, label) => value - known[0][label] - known[1][label] - known[2][label]);
  const names = ["effect of a", "effect of b", "rule", "remainder"];
  return {total, parts: [...known, remainder].map((values, part) => ({name: names[part], values}))};
}

// A neuron in a few words: its class and key frequency, and its cluster.
function neuronWords(neuron) {
  const {waves, clusters} = seen;
  const words = [];
  if (waves !== null) {
    const key = waves.key.values[neuron];
    words.push(seen.neuronClasses[waves.classes.values[neuron]]);
    words.push(key === 0 ? "no key frequency" : `key frequency ${key}`);
  }
  if (clusters !== null) {
    const cluster = clusters.cluster.values[neuron];
    words.push(cluster === 0 ? "in no cluster" : `cluster ${cluster}`);
  }
  return words.length === 0 ? "no class is known" : words.join(", ");
}

// A text that a figure shows as it is: Plotly reads tags and entities.
const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

function number(value) {
  return Number.isFinite(value) ? String(Number(value.toPrecision(3))).replace("-", "−") : "–";
}

const percent = (value) => (Number.isFinite(value) ? `${number(100 * value)} %` : "–");
