// Unpacks the answers when they come into view and shows them side by side. All texts enter the page as text, never as HTML.
(() => {
  "use strict";
  const packed = document.getElementById("packed-answers");
  if (!packed) return;
  const PAGE = 20;
  const part = (name) => document.querySelector(`[data-answers="${name}"]`);
  const classes = JSON.parse(document.getElementById("arm-classes").textContent);
  const data = JSON.parse(document.getElementById("page-data").textContent);
  // How a measure is written beside an answer, in this order.
  const FIGURES = [
    ["rouge_l", (value) => `ROUGE-L ${(100 * value).toFixed(1)}`],
    ["bleu_4", (value) => `BLEU-4 ${value.toFixed(1)}`],
    ["exact_match", (value) => (value === 1 ? "exact match" : "")],
    ["characters", (value) => `${value} characters`],
    ["repetition", (value) => `repetition ${(100 * value).toFixed(1)}%`],
    ["log_diversity", (value) => `log-diversity ${value.toFixed(2)}`],
  ];
  const [form, list, count, more] = ["filters", "list", "count", "more"].map(part);
  let panels = [];
  let shown = PAGE;

  async function unpack() {
    const bytes = Uint8Array.from(atob(packed.textContent), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).json();
  }

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function options(select, entries) {
    const chosen = select.value;
    select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
    if (entries.some(([value]) => value === chosen)) select.value = chosen;
    select.closest("label").hidden = entries.length < 2;
  }

  const panel = () => panels[Number(form.elements.panel.value)];
  const replicates = () => [...new Set(panel().models.map((model) => model.replicate))].filter(Boolean);
  // An arm of a single run (an untouched model) stands beside every run of the others.
  const models = () => {
    const { models } = panel();
    const wanted = form.elements.replicate.value;
    return models.filter((model) => !wanted || model.replicate === wanted || models.filter(({ arm }) => arm === model.arm).length === 1);
  };
  const baseline = () => models().find((model) => data.baselines.includes(model.arm));

  function filters() {
    const reference = baseline();
    const entries = [["all", "all prompts"]];
    if (models().length > 1) entries.push(["differ", "where answers differ"]);
    models().forEach((model, at) => {
      if (model.reference && model.arm !== model.reference) {
        entries.push([`lost ${at}`, `where ${model.arm} lost to ${model.reference}`], [`won ${at}`, `where ${model.arm} won against ${model.reference}`]);
      }
      if (reference && model !== reference && model.answers.some((answer) => answer?.measures.rouge_l !== undefined)) {
        entries.push([`below ${at}`, `where ${model.arm} has less ROUGE-L than ${reference.arm}`], [`above ${at}`, `where ${model.arm} has more ROUGE-L than ${reference.arm}`]);
      }
    });
    if (models().some((model) => model.answers.some((answer) => answer?.flagged))) entries.push(["flagged", "where an answer needs a look"]);
    return entries;
  }

  function passes(prompt) {
    const [kind, at] = form.elements.filter.value.split(" ");
    const answers = models().map((model) => model.answers[prompt]);
    const answer = answers[Number(at)];
    const share = (other) => other?.measures.rouge_l ?? Number.NaN;
    const reference = baseline()?.answers[prompt];
    switch (kind) {
      case "differ": return new Set(answers.filter(Boolean).map(({ output }) => output)).size > 1;
      case "lost": return answer?.preference < 1.5;
      case "won": return answer?.preference > 1.5;
      case "below": return share(answer) < share(reference);
      case "above": return share(answer) > share(reference);
      case "flagged": return answers.some((other) => other?.flagged);
      default: return true;
    }
  }

  function holdsText(prompt) {
    const text = form.elements.text.value.trim().toLowerCase();
    if (!text) return true;
    const { instruction, input = "" } = panel().prompts[prompt];
    const outputs = models().map((model) => model.answers[prompt]?.output ?? "");
    return [instruction, input, ...outputs].some((other) => other.toLowerCase().includes(text));
  }

  function answerView(model, answer) {
    const box = element("article", `answer ${classes[model.arm]}`);
    const header = element("header");
    header.append(element("b", "name", model.arm));
    if (answer.preference !== undefined && model.arm !== model.reference) {
      const share = 100 * (answer.preference - 1);
      const verdict = answer.preference === 1.5 ? "a draw" : share > 50 ? `preferred to ${model.reference}` : `${model.reference} preferred`;
      const isNearlyEven = answer.preference !== 1.5 && Math.round(share) === 50;
      header.append(element("span", "verdict", `${verdict} (${share.toFixed(isNearlyEven ? 1 : 0)}%)`));
    }
    if (answer.flagged) header.append(element("span", "flag", "needs a look"));
    const known = FIGURES.filter(([name]) => answer.measures[name] !== undefined);
    const figures = known.map(([name, write]) => write(answer.measures[name])).filter(Boolean);
    if (answer.finish_reason === "length") figures.push("cut at the longest answer");
    const line = element("p", "figures");
    line.append(...figures.map((figure) => element("span", "", figure)));
    box.append(header, element("p", "text", answer.output || "(empty)"), line);
    return box;
  }

  function promptView(prompt) {
    const { instruction, input, reference = [] } = panel().prompts[prompt];
    const box = element("article", "prompt");
    box.append(element("p", "asked", input ? `${instruction}\n\n${input}` : instruction));
    for (const gold of reference.slice(0, 3)) box.append(element("p", "gold", `Reference: ${gold}`));
    if (reference.length > 3) box.append(element("p", "gold", `and ${reference.length - 3} more references`));
    const pair = element("div", "pair");
    const hidden = new Set([...part("arms").querySelectorAll("input:not(:checked)")].map(({ value }) => value));
    for (const model of models()) {
      const answer = model.answers[prompt];
      if (answer && !hidden.has(model.arm)) pair.append(answerView(model, answer));
    }
    box.append(pair);
    return box;
  }

  function show() {
    const found = panel().prompts.map((_, at) => at).filter((at) => passes(at) && holdsText(at));
    count.textContent = `${found.length} of ${panel().prompts.length} prompts`;
    list.replaceChildren(...found.slice(0, shown).map(promptView));
    more.hidden = found.length <= shown;
  }

  function arrange() {
    options(form.elements.replicate, replicates().map((replicate) => [replicate, replicate]));
    form.elements.replicate.parentElement.hidden = replicates().length < 2;
    options(form.elements.filter, filters());
    const arms = [...new Set(panel().models.map(({ arm }) => arm))];
    part("arms").replaceChildren(...arms.map((arm) => {
      const label = element("label", classes[arm]);
      const box = element("input");
      Object.assign(box, { type: "checkbox", value: arm, checked: true });
      label.append(box, arm);
      return label;
    }));
  }

  async function start() {
    panels = await unpack();
    options(form.elements.panel, panels.map(({ title }, at) => [String(at), title]));
    form.elements.panel.parentElement.hidden = panels.length < 2;
    arrange();
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", ({ target }) => {
      shown = PAGE;
      if (target.name === "panel" || target.name === "replicate") arrange();
      show();
    });
    more.addEventListener("click", () => {
      const next = shown;
      shown += PAGE;
      show();
      list.children[next]?.scrollIntoView({ block: "nearest" });
    });
    show();
  }

  const begin = () => start().catch((error) => { count.textContent = `The answers cannot be unpacked: ${error.message}`; });
  const watch = new IntersectionObserver((entries) => {
    if (entries.some(({ isIntersecting }) => isIntersecting)) {
      watch.disconnect();
      begin();
    }
  }, { rootMargin: "600px" });
  watch.observe(document.getElementById("answers"));
})();
