// The tables behind the figures of the page to explore. A table is filled only while it is open.
"use strict";

const cellButton = (cell) => ({select: {cell}, text: cellName(cell)});
const neuronButton = (neuron) => ({select: {neuron}, text: `neuron ${neuron}`});
const stepButton = (step) => ({select: {step}, text: stepName(step)});
const labels = (cell) => [labelOf(seen.given.values[cell], "none"), labelOf(seen.true.values[cell], "not known")];

const TABLES = {
  accuracy: () => ({
    head: ["state", ...seen.accuracy.map((split) => split.title)],
    rows: seen.steps.map((_, step) => (
      [stepButton(step), ...seen.accuracy.map((split) => percent(split.values.values[step]))]
    )),
  }),
  grid: ({cell, step}) => {
    const [a] = operandsOf(Math.max(cell, 0));
    const row = Array.from({length: seen.symbols}, (_, b) => cellAt(a, b)).filter((each) => each >= 0);
    const told = (each) => [answerName(answerOf(each, step)), OUTCOMES[outcomeOf(each, step)], splitOf(each)];
    return {
      head: ["cell", "training label", "true label", "answer", "outcome", "split"],
      rows: row.map((each) => [cellButton(each), ...labels(each), ...told(each)]),
    };
  },
  course: ({cell}) => ({
    head: ["state", "answer", "outcome"],
    rows: seen.steps.map((_, step) => (
      [stepButton(step), answerName(answerOf(cell, step)), OUTCOMES[outcomeOf(cell, step)]]
    )),
  }),
  contributors: ({cell}) => ({
    head: ["neuron", "contribution (logits)"],
    rows: [
      ...contributionsTo(cell).map((each) => (
        [each.number < 0 ? each.name : neuronButton(each.number), number(each.value)]
      )),
      ["sum: the answer's logit over the mean class", number(contributed.total.values[cell])],
    ],
  }),
  influences: ({cell}) => ({
    head: ["training cell", "share of all influence", "training label", "true label"],
    rows: influencesOf(cell).map((each) => [cellButton(each.number), percent(each.value), ...labels(each.number)]),
  }),
  parts: ({cell}) => {
    const {total, parts} = logitsOf(cell);
    return {
      head: ["class", ...parts.map((part) => part.name), "logit"],
      rows: Array.from(total, (value, label) => (
        [className(label), ...parts.map((part) => number(part.values[label])), number(value)]
      )),
    };
  },
  waves: ({neuron}) => {
    const {names, symbols, values} = seen.waves, length = symbols.values.length, row = values.row(neuron);
    return {
      head: ["symbol", ...names.map((name) => VECTOR_NAMES[name])],
      rows: Array.from(symbols.values, (symbol, place) => (
        [symbol, ...names.map((_, vector) => number(row[vector * length + place]))]
      )),
    };
  },
  spectrum: ({neuron}) => {
    const spectra = spectraOf(neuron);
    return {
      head: ["frequency", ...spectra.map((each) => each.name)],
      rows: Array.from(spectra[0].values, (_, place) => (
        [seen.map === null ? place + 1 : seen.map.labels[place], ...spectra.map((each) => percent(each.values[place]))]
      )),
    };
  },
  held: ({neuron, step}) => ({
    head: ["cell", "contribution to its answer (logits)", "training label", "true label", "answer"],
    rows: heldBy(neuron).map((each) => (
      [cellButton(each.number), number(each.value), ...labels(each.number), answerName(answerOf(each.number, seen.own))]
    )),
  }),
  map: () => ({
    head: ["neuron", "in a few words", "largest share of a frequency"],
    rows: Array.from(seen.map.order.values, (neuron) => {
      const shares = seen.map.labels.map((_, frequency) => seen.map.share.row(frequency)[neuron]);
      return [neuronButton(neuron), neuronWords(neuron), percent(Math.max(...shares))];
    }),
  }),
};

// A cell of a table: text, or a button that selects something.
function tableCell(kind, content) {
  const made = document.createElement(kind);
  if (typeof content !== "object") {
    made.textContent = content;
    return made;
  }
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = content.text;
  button.addEventListener("click", () => select(content.select));
  made.append(button);
  return made;
}

// Fill a table if it is open. A button that has the focus keeps it, by its place.
function fillTable(id) {
  const folded = document.getElementById(`${id}-table`), place = folded.querySelector("div");
  if (!folded.open || folded.closest("[hidden]") !== null) {
    return;
  }
  const {head, rows} = TABLES[id](state);
  const focused = Array.from(place.querySelectorAll("button")).indexOf(document.activeElement);
  const table = document.createElement("table"), top = table.createTHead().insertRow(), body = table.createTBody();
  for (const title of head) {
    const cell = tableCell("th", title);
    cell.scope = "col";
    top.append(cell);
  }
  for (const row of rows) {
    body.insertRow().append(...row.map((content) => tableCell("td", content)));
  }
  place.replaceChildren(table);
  if (focused >= 0) {
    Array.from(place.querySelectorAll("button")).at(Math.min(focused, rows.length - 1))?.focus({preventScroll: true});
  }
}
