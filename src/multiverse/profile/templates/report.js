"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const svg = (name, attributes, parent) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
};
const time = (us) => us >= 1e6 ? (us / 1e6).toFixed(3) + " s" : us >= 1e3 ? (us / 1e3).toFixed(2) + " ms" : us.toFixed(1) + " µs";
const ms = (value) => value >= 100 ? value.toFixed(0) + " ms" : value.toFixed(value >= 1 ? 2 : 4) + " ms";

// ---- Tables: sort by a column, show only some lines ------------------------------------------

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", (event) => {
    const numbers = event.target.dataset.kind === "number";
    const before = head.getAttribute("aria-sort");
    const down = before ? before !== "descending" : numbers;
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const key = (row) => numbers ? Number(row.cells[column].dataset.v) : row.cells[column].textContent;
    const rows = [...body.rows].map((row) => [key(row), row]);
    rows.sort(([a], [b]) => (numbers ? a - b : a.localeCompare(b)) * (down ? -1 : 1));
    body.append(...rows.map(([, row]) => row));
  }));
}

const find = byId("sites-find");
if (find) find.addEventListener("input", () => {
  const wanted = find.value.toLowerCase();
  let shown = 0;
  for (const row of byId("sites").tBodies[0].rows) {
    row.hidden = !row.textContent.toLowerCase().includes(wanted);
    shown += !row.hidden;
  }
  byId("sites-says").textContent = wanted ? `${shown} lines` : "";
});

// ---- Timeline --------------------------------------------------------------------------------

// Of each column: the share of time on the ROS side, and the stretch that has most of it.
function columns(group, from, to, count) {
  const width = (to - from) / count;
  const found = Array.from({ length: count }, () => ({ ros: 0, most: 0, stretch: null }));
  for (const stretch of group.lane) {
    const [begin, end, , , busy] = stretch;
    if (end < from || begin > to) continue;
    const density = end > begin ? busy / (end - begin) : 1;
    const first = Math.max(0, Math.floor((begin - from) / width));
    const last = Math.min(count - 1, Math.floor((end - from) / width));
    for (let at = first; at <= last; at++) {
      const left = Math.max(begin, from + at * width), right = Math.min(end, from + (at + 1) * width);
      const part = Math.max(0, right - left) * density;
      found[at].ros += part / width;
      if (part >= found[at].most) Object.assign(found[at], { most: part, stretch });
    }
  }
  return found;
}

function timeline(place) {
  const COLUMNS = 600, HALF = 50;
  const start = Math.min(...data.groups.map((g) => g.begin)), stop = Math.max(...data.groups.map((g) => g.end));
  let from = start, to = stop, cursor = 0.5;
  const lanes = data.groups.map((group) => {
    const lane = document.createElement("div");
    lane.className = "lane";
    const who = document.createElement("div");
    who.className = "who";
    who.textContent = group.name;
    const small = document.createElement("small");
    small.textContent = group.pid === group.tid ? `process ${group.pid}` : `thread ${group.tid}`;
    who.append(small);
    lane.append(who);
    const frame = document.createElement("div");
    frame.className = "picture";
    lane.append(frame);
    const picture = svg("svg", { viewBox: `0 0 ${COLUMNS} ${2 * HALF}`, preserveAspectRatio: "none", tabindex: 0, role: "img" }, frame);
    picture.setAttribute("aria-label", `Timeline of ${group.name}, thread ${group.tid}`);
    place.append(lane);
    return { group, picture, cells: [] };
  });
  place.classList.toggle("few", lanes.length < 4);
  const axis = document.createElement("div");
  axis.className = "axis";
  axis.innerHTML = "<span></span><div><span></span><span></span><span></span></div>";
  place.append(axis);

  function area(cells, height) {
    let path = `M0 ${HALF}`;
    cells.forEach((cell, i) => { path += `L${i} ${height(cell)}L${i + 1} ${height(cell)}`; });
    return path + `L${COLUMNS} ${HALF}Z`;
  }
  function draw() {
    const x = (at) => (at - from) / (to - from) * COLUMNS;
    for (const lane of lanes) {
      const { group, picture } = lane;
      lane.cells = columns(group, from, to, COLUMNS);
      picture.replaceChildren();
      const left = Math.max(0, x(group.begin)), right = Math.min(COLUMNS, x(group.end));
      const alive = (i) => i + 1 > left && i < right;
      lane.cells.forEach((cell, i) => { cell.alive = alive(i); });
      svg("path", { class: "hrt", d: area(lane.cells, (c) => c.alive ? HALF - Math.max(0, 1 - c.ros) * HALF : HALF) }, picture);
      svg("path", { class: "ros", d: area(lane.cells, (c) => HALF + Math.min(1, c.ros) * HALF) }, picture);
      if (left > 0) svg("rect", { class: "absent", x: 0, y: 0, width: Math.min(left, COLUMNS), height: 2 * HALF }, picture);
      if (right < COLUMNS) svg("rect", { class: "absent", x: Math.max(0, right), y: 0, width: COLUMNS - Math.max(0, right), height: 2 * HALF }, picture);
      svg("line", { class: "middle", x1: 0, x2: COLUMNS, y1: HALF, y2: HALF }, picture);
    }
    const marks = axis.lastElementChild.children;
    [from, (from + to) / 2, to].forEach((at, i) => { marks[i].textContent = time(at - start); });
  }
  function say(lane, fraction) {
    cursor = Math.min(0.9999, Math.max(0, fraction));
    const at = Math.floor(cursor * COLUMNS), cell = lane.cells[at];
    for (const other of lanes) other.picture.querySelector(".cursor")?.remove();
    svg("line", { class: "cursor", x1: cursor * COLUMNS, x2: cursor * COLUMNS, y1: 0, y2: 2 * HALF }, lane.picture);
    const when = time(from + cursor * (to - from) - start);
    let text = `${when}, thread ${lane.group.tid}: `;
    if (!cell.alive) text += "not there";
    else text += `${Math.round(Math.min(1, cell.ros) * 100)} % on the ROS side`;
    if (cell.alive && cell.stretch) {
      const [begin, end, name, count] = cell.stretch;
      text += count > 1 ? `, ${count} events, above all ${data.names[name]}` : `, ${data.names[name]}, ${time(end - begin)}`;
    }
    byId("timeline-says").textContent = text;
  }
  function zoom(factor) {
    const middle = from + cursor * (to - from);
    const width = Math.min(stop - start, Math.max(20, (to - from) * factor));
    from = Math.max(start, Math.min(stop - width, middle - width * cursor));
    to = from + width;
    draw();
  }
  function all() { from = start; to = stop; draw(); }
  function move(fraction) {
    const step = Math.max(start - from, Math.min(stop - to, (to - from) * fraction));
    from += step; to += step;
    draw();
  }
  for (const lane of lanes) {
    lane.picture.addEventListener("pointermove", (event) => {
      const box = lane.picture.getBoundingClientRect();
      say(lane, (event.clientX - box.left) / box.width);
    });
    lane.picture.addEventListener("click", () => { zoom(0.5); say(lane, cursor); });
    lane.picture.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 0.1 : 0.01;
      const keys = {
        ArrowRight: () => { if (cursor + step >= 1) move(0.25); else cursor += step; },
        ArrowLeft: () => { if (cursor - step < 0) move(-0.25); else cursor -= step; },
        "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), "0": all,
      };
      if (!keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
      say(lane, cursor);
    });
  }
  byId("zoom-in").addEventListener("click", () => zoom(0.5));
  byId("zoom-out").addEventListener("click", () => zoom(2));
  byId("zoom-all").addEventListener("click", all);
  draw();
}
if (byId("timeline") && data.groups.length) timeline(byId("timeline"));

// ---- Flame graph -----------------------------------------------------------------------------

function tree() {
  const node = (name, module, kind, found, parent) =>
    ({ name, module, kind, found, parent, cost: 0, children: new Map(), depth: parent ? parent.depth + 1 : 0 });
  const root = node("all legacy events", "", "event", false, null);
  for (const [event, , frames, cost] of data.stacks) {
    let at = root;
    at.cost += cost;
    const path = frames.map((index) => data.frames[index]);
    for (const [name, module, kind, found] of [...path, [event, "", "event", false]]) {
      const key = name + "\0" + module + "\0" + kind;
      if (!at.children.has(key)) at.children.set(key, node(name, module, kind, found, at));
      at = at.children.get(key);
      at.cost += cost;
    }
  }
  const sort = (of) => {
    of.children = [...of.children.values()].sort((a, b) => b.cost - a.cost);
    of.children.forEach(sort);
  };
  sort(root);
  return root;
}

function flame(place) {
  const root = tree(), LEAST = 0.0008, ROW = 1.35;
  let top = root, focused = root, boxes = new Map();
  const says = byId("flame-says");
  const tell = (node) => {
    const share = root.cost ? (node.cost / root.cost * 100).toFixed(1) : "0";
    says.textContent = `${node.name}${node.module ? " (" + node.module + ")" : ""}: ${ms(node.cost)}, ${share} % of all` +
      (node.found ? "; only looks like a caller" : "");
  };
  function box(node, left, width, row) {
    const element = document.createElement("div");
    element.setAttribute("role", "treeitem");
    element.setAttribute("aria-level", row + 1);
    element.setAttribute("aria-label", `${node.name}, ${ms(node.cost)}`);
    element.className = `f-${node.found ? "unknown" : node.kind}` + (node.found ? " found" : "");
    element.style.cssText = `left:${left * 100}%;width:${width * 100}%;top:${row * ROW}rem`;
    element.textContent = width > 0.02 ? node.name : "";
    element.tabIndex = node === focused ? 0 : -1;
    element.addEventListener("click", () => { zoom(node); });
    element.addEventListener("pointerenter", () => tell(node));
    element.addEventListener("focus", () => tell(node));
    place.append(element);
    boxes.set(node, element);
  }
  function draw() {
    place.replaceChildren();
    boxes = new Map();
    const above = [];
    for (let node = top.parent; node; node = node.parent) above.unshift(node);
    if (!boxes.has(focused)) focused = top;
    above.forEach((node, row) => box(node, 0, 1, row));
    let deepest = above.length;
    const place1 = (node, left, width, row) => {
      box(node, left, width, row);
      deepest = Math.max(deepest, row + 1);
      let at = left;
      for (const child of node.children) {
        const part = node.cost ? width * child.cost / node.cost : 0;
        if (part >= LEAST) place1(child, at, part, row + 1);
        at += part;
      }
    };
    place1(top, 0, 1, above.length);
    place.style.height = `calc(${deepest * ROW}rem + 2px)`;
    mark();
  }
  function zoom(node) {
    top = node;
    focused = node;
    draw();
    boxes.get(node).focus({ preventScroll: true });
    tell(node);
  }
  function focus(node) {
    if (!node || !boxes.has(node)) return;
    boxes.get(focused).tabIndex = -1;
    focused = node;
    boxes.get(node).tabIndex = 0;
    boxes.get(node).focus();
  }
  function mark() {
    const wanted = byId("flame-find").value.toLowerCase();
    let cost = 0;
    const visit = (node, counted) => {
      const hit = wanted && node.name.toLowerCase().includes(wanted);
      if (hit && !counted) cost += node.cost;
      boxes.get(node)?.classList.toggle("dim", Boolean(wanted) && !hit);
      for (const child of node.children) visit(child, counted || hit);
    };
    visit(root, false);
    if (wanted) says.textContent = `${ms(cost)} under what is found, ${(root.cost ? cost / root.cost * 100 : 0).toFixed(1)} %`;
  }
  place.addEventListener("keydown", (event) => {
    const siblings = focused.parent ? focused.parent.children.filter((node) => boxes.has(node)) : [focused];
    const at = siblings.indexOf(focused);
    const keys = {
      ArrowDown: () => focus(focused.children.find((node) => boxes.has(node))),
      ArrowUp: () => focus(focused.parent),
      ArrowRight: () => focus(siblings[at + 1]),
      ArrowLeft: () => focus(siblings[at - 1]),
      Home: () => focus(root),
      Enter: () => zoom(focused),
      " ": () => zoom(focused),
      Escape: () => zoom(top.parent || root),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  byId("flame-find").addEventListener("input", mark);
  byId("flame-reset").addEventListener("click", () => zoom(root));
  draw();
}
if (byId("flame") && data.stacks.length) flame(byId("flame"));
