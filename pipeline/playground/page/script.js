"use strict";

// Paper around the drawing, so that ink at its edge is not taken for the table beside it.
const MARGIN = 16;
const STEP = 8;
const FAR = 40;
// While a stroke is drawn the models are asked again at most this often, in milliseconds.
const PAUSE = 150;

const find = (id) => document.getElementById(id);
const canvas = find("canvas");
const overlay = find("overlay");
const paper = canvas.getContext("2d");
const marks = overlay.getContext("2d");

let strokes = [];
let current = null;
// A picture that was opened: its file, what it looks like, and where it lies on the canvas.
let picture = null;
let boxes = [];
let leftOut = [];
let keyboardPen = null;
// The finger, pen or mouse that draws: a second finger or the palm does not.
let pointer = null;
let asking = false;
let askAgain = false;
let version = 0;

// --- Drawing ---------------------------------------------------------------------------------------------------------

function draw(context, offset = 0) {
  context.fillStyle = "#fff";
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  if (picture) {
    const { left, top, scale, image } = picture;
    context.drawImage(image, left + offset, top + offset, image.width * scale, image.height * scale);
  }
  context.strokeStyle = "#111";
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    context.lineWidth = stroke.width;
    context.beginPath();
    const [first] = stroke.points;
    // A line of no length would not be drawn, not even as a dot.
    context.moveTo(first.x + offset - 0.1, first.y + offset);
    for (const point of stroke.points) context.lineTo(point.x + offset, point.y + offset);
    context.stroke();
  }
}

function redraw() {
  draw(paper);
  marks.clearRect(0, 0, overlay.width, overlay.height);
  marks.strokeStyle = marks.fillStyle = getComputedStyle(document.body).getPropertyValue("--best");
  marks.lineWidth = 3;
  marks.font = "bold 22px system-ui, sans-serif";
  for (const { box: [x1, y1, x2, y2], label, score } of boxes) {
    marks.strokeRect(x1, y1, x2 - x1, y2 - y1);
    marks.fillText(boxes.length > 1 ? label : `${label} ${percent(score)}`, Math.max(2, x1), y1 > 26 ? y1 - 6 : Math.min(y2 + 22, overlay.height - 4));
  }
  // What was passed over: dashed, so that nobody takes a number without its point for the number.
  marks.setLineDash([6, 4]);
  for (const [x1, y1, x2, y2] of leftOut) marks.strokeRect(x1, y1, x2 - x1, y2 - y1);
  marks.setLineDash([]);
  if (keyboardPen && document.activeElement === canvas) {
    marks.beginPath();
    marks.arc(keyboardPen.x, keyboardPen.y, find("pen").value / 2, 0, 2 * Math.PI);
    marks.stroke();
  }
}

function position(event) {
  const area = canvas.getBoundingClientRect();
  return {
    x: (event.clientX - area.left) * canvas.width / area.width,
    y: (event.clientY - area.top) * canvas.height / area.height,
  };
}

function begin(point) {
  current = { width: Number(find("pen").value), points: [point] };
  strokes.push(current);
  changed();
}

function clear() {
  strokes = [];
  current = picture = null;
  changed();
}

function undo() {
  if (strokes.length) strokes.pop();
  else picture = null;
  current = null;
  changed();
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || pointer !== null) return;
  keyboardPen = null;
  pointer = event.pointerId;
  canvas.setPointerCapture(event.pointerId);
  begin(position(event));
});
canvas.addEventListener("pointermove", (event) => {
  if (!current || event.pointerId !== pointer) return;
  // The points that the browser left out between two frames.
  const passed = event.getCoalescedEvents?.() ?? [];
  current.points.push(...(passed.length ? passed : [event]).map(position));
  changed();
});
for (const kind of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(kind, (event) => {
    if (event.pointerId === pointer) current = pointer = null;
  });
}

canvas.addEventListener("keydown", (event) => {
  const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const direction = directions[event.key];
  if (direction || event.key === " ") {
    keyboardPen ??= { x: canvas.width / 2, y: canvas.height / 4 };
    if (direction) {
      const far = event.shiftKey ? FAR : STEP;
      keyboardPen.x = Math.min(canvas.width, Math.max(0, keyboardPen.x + far * direction[0]));
      keyboardPen.y = Math.min(canvas.height, Math.max(0, keyboardPen.y + far * direction[1]));
      if (current) {
        current.points.push({ ...keyboardPen });
        changed();
      }
    } else if (current) {
      current = null;
    } else {
      begin({ ...keyboardPen });
    }
    redraw();
  } else if (event.key === "Backspace") {
    undo();
  } else if (event.key === "Escape") {
    clear();
  } else {
    return;
  }
  event.preventDefault();
});
canvas.addEventListener("blur", () => { if (keyboardPen) current = null; redraw(); });

find("undo").addEventListener("click", undo);
find("clear").addEventListener("click", clear);

// --- Pictures --------------------------------------------------------------------------------------------------------

async function open(file) {
  clear();
  try {
    const image = await createImageBitmap(file);
    const scale = Math.min(canvas.width / image.width, canvas.height / image.height);
    const left = (canvas.width - image.width * scale) / 2;
    const top = (canvas.height - image.height * scale) / 2;
    picture = { file, image, scale, left, top };
    changed();
  } catch {
    // What the browser cannot show, the server will explain.
    version += 1;
    const answer = await send("/api/answer", file);
    if (answer) say("This picture cannot be shown here.", true);
  }
}

find("file").addEventListener("change", (event) => {
  if (event.target.files[0]) open(event.target.files[0]);
  event.target.value = "";
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files[0]) open(event.clipboardData.files[0]);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
});

// --- Asking ----------------------------------------------------------------------------------------------------------

const isEmpty = () => !strokes.length && !picture;

// What the models are sent, and how its pixels lie on the canvas.
async function content() {
  if (picture && !strokes.length) return { body: picture.file, ...picture };
  const whole = document.createElement("canvas");
  whole.width = canvas.width + 2 * MARGIN;
  whole.height = canvas.height + 2 * MARGIN;
  draw(whole.getContext("2d"), MARGIN);
  const body = await new Promise((done) => whole.toBlob(done, "image/png"));
  return { body, scale: 1, left: -MARGIN, top: -MARGIN };
}

async function send(address, body) {
  try {
    // What kind of file it is the server sees by its content, and can say better.
    const response = await fetch(address, { method: "POST", body, headers: { "Content-Type": "application/octet-stream" } });
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return answer;
    say(answer.error ?? `The playground could not answer (${response.status}): its terminal says why.`, true);
  } catch {
    say("The playground does not answer: is it still running?", true);
  }
  return null;
}

function changed() {
  version += 1;
  boxes = [];
  leftOut = [];
  redraw();
  say("");
  find("save").disabled = isEmpty();
  if (isEmpty()) show(null);
  else if (asking) askAgain = true;
  else ask();
}

async function ask() {
  asking = true;
  const asked = version;
  const { body, scale, left, top } = await content();
  const answer = await send("/api/answer", body);
  if (isEmpty()) show(null);
  else if (answer) show(answer, (value, axis) => value * scale + (axis % 2 ? top : left));
  else show(null, null, "No answer");
  if (asked !== version) askAgain = !isEmpty();
  await new Promise((done) => setTimeout(done, current ? PAUSE : 0));
  asking = false;
  if (askAgain) {
    askAgain = false;
    ask();
  }
}

find("correction").addEventListener("submit", async (event) => {
  event.preventDefault();
  const label = find("label").value;
  find("save").disabled = true;
  const { body } = await content();
  const saved = await send(`/api/corrections?label=${encodeURIComponent(label)}`, body);
  find("save").disabled = isEmpty();
  if (saved) say(`Saved as ${label}: ${saved.folder} now has ${saved.images.toLocaleString("en")} training images.`);
});

// --- Showing ---------------------------------------------------------------------------------------------------------

const percent = (share) => `${Math.round(100 * share)} %`;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function say(text, bad = false) {
  find("status").textContent = text;
  find("status").classList.toggle("bad", bad);
}

function bars(answer) {
  const best = Math.max(...answer.shares);
  const columns = answer.shares.map((share, index) => {
    const height = Math.max(0.5, 44 * share);
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 10 44");
    svg.setAttribute("preserveAspectRatio", "none");
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [key, value] of Object.entries({ x: 0, y: 44 - height, width: 10, height })) bar.setAttribute(key, value);
    svg.append(bar);
    const title = `${answer.classes[index]}: ${percent(share)}`;
    return element("div", { className: share === best ? "best" : "", title }, svg, answer.classes[index]);
  });
  const chart = element("div", { className: "bars", role: "img" }, ...columns);
  chart.setAttribute("aria-label", answer.classes.map((name, index) => `${name} ${percent(answer.shares[index])}`).join(", "));
  return chart;
}

function card(answer) {
  const found = answer.boxes ? `${answer.boxes.length} found` : percent(Math.max(...answer.shares));
  const passed = answer.left_out.length;
  const why = passed ? `: passed over ${passed} mark${passed === 1 ? "" : "s"}` : "";
  const sure = answer.unsure ? `${found}, unsure${why}` : found;
  const line = element("div", { className: "answer" },
    element("span", { className: "said" }, answer.label),
    element("span", { className: "sure" }, sure),
    element("span", { className: "time" }, `${answer.milliseconds.toFixed(1)} ms`));
  const made = element("li", {}, element("div", { className: "model" }, answer.name), line, bars(answer));
  made.dataset.architecture = answer.architecture;
  made.dataset.label = answer.label;
  return made;
}

function show(answer, place, title = "Nothing drawn yet") {
  const answers = answer?.answers ?? [];
  find("answers").replaceChildren(...answers.map(card));
  const detectors = answers.filter((one) => one.task === "detection");
  const classifiers = answers.filter((one) => one.task !== "detection");
  // A detector's own boxes, or those in which the first classifier reads several digits.
  const boxed = detectors.length ? detectors : classifiers.filter((one) => one.boxes).slice(0, 1);
  boxes = boxed.flatMap((one) => one.boxes.map((found) => ({ ...found, box: found.box.map(place) })));
  leftOut = answers.slice(0, 1).flatMap((one) => one.left_out.map((box) => box.map(place)));
  find("answers-title").textContent = answers.length ? verdict(answers) : title;
  const [first] = classifiers.length ? classifiers : detectors;
  find("seen").hidden = !first;
  if (first) find("seen").src = first.seen;
  find("seen").alt = first ? `The image of 28 px the models see, most take it for ${first.label}` : "";
  find("seen-text").textContent = first ? `What the models see. All answers took ${answer.milliseconds.toFixed(0)} ms.` : "What the models see appears here.";
  redraw();
}

function verdict(answers) {
  const votes = new Map();
  for (const { label } of answers) votes.set(label, (votes.get(label) ?? 0) + 1);
  const sorted = [...votes].sort((one, other) => other[1] - one[1]);
  return sorted.length === 1
    ? `${answers.length === 1 ? "It is taken" : `All ${answers.length} take it`} for ${sorted[0][0]}`
    : sorted.map(([label, count]) => `${count} say ${label}`).join(", ");
}

fetch("/api/models").then((response) => response.json()).then((about) => {
  find("label").replaceChildren(element("option", { value: "" }, "…"), ...about.classes.map((name) => element("option", { value: name }, name)));
  find("save").title = `Adds to ${about.folder}`;
});
redraw();
