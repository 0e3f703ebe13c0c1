// Runs in a copy of the report's page and writes what is wrong with it into the page.
"use strict";
const wrong = [];
window.addEventListener("error", event => wrong.push("error: " + event.message));
const say = text => { if (wrong.length < 50) wrong.push(text); };
const words = element => (element.textContent || "").trim().slice(0, 60);

function rgb(text) {
  const parts = text.match(/[\d.]+/g).map(Number);
  return { r: parts[0], g: parts[1], b: parts[2], a: parts.length > 3 ? parts[3] : 1 };
}
// Contrast as WCAG 2 defines it.
function luminance({ r, g, b }) {
  const part = value => {
    value /= 255;
    return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
}
function contrast(one, other) {
  const [a, b] = [luminance(one), luminance(other)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}
function ground(element) {
  for (let at = element; at; at = at.parentElement) {
    const colour = rgb(getComputedStyle(at).backgroundColor);
    if (colour.a > 0.5) return colour;
  }
  return { r: 255, g: 255, b: 255 };
}
const within = (inner, outer, slack) =>
  inner.left >= outer.left - slack && inner.right <= outer.right + slack &&
  inner.top >= outer.top - slack && inner.bottom <= outer.bottom + slack;
const overlap = (a, b) =>
  Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
  Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2;

function picture(svg, count) {
  const name = (svg.getAttribute("aria-label") || "").slice(0, 40);
  if (svg.getAttribute("role") !== "img" || name.length < 10) say("a picture without words");
  const room = svg.getBoundingClientRect();
  if (room.width < 100 || room.height < 30) say("a picture of no size: " + name);
  for (const shape of svg.querySelectorAll("rect, path, circle")) {
    count.shapes += 1;
    const box = shape.getBBox();
    if (!(box.width + box.height > 0)) say("a shape of no size in " + name);
    if (!within(shape.getBoundingClientRect(), room, 2)) say("a shape outside of " + name);
    const style = getComputedStyle(shape);
    const paints = value => value !== "none" && rgb(value).a > 0;
    if (!paints(style.fill) && !paints(style.stroke)) say("a shape without colour in " + name + ": " + shape.getAttribute("class"));
  }
  const texts = [...svg.querySelectorAll("text")];
  const boxes = texts.map(text => text.getBoundingClientRect());
  texts.forEach((text, at) => {
    count.texts += 1;
    if (!(boxes[at].width > 0)) say("a text of no size in " + name);
    if (!within(boxes[at], room, 1)) say("text outside of its picture: " + words(text));
    const box = text.closest(".box");
    const under = box ? box.querySelector("rect") : null;
    if (under && !within(boxes[at], under.getBoundingClientRect(), 1)) say("text outside of its box: " + words(text));
    const behind = under ? rgb(getComputedStyle(under).fill) : ground(svg);
    if (contrast(rgb(getComputedStyle(text).fill), behind) < 4.5) say("text too faint: " + words(text));
    for (let other = at + 1; other < boxes.length; other += 1) {
      if (overlap(boxes[at], boxes[other])) say("text upon text: " + words(text) + " / " + words(texts[other]));
    }
  });
}

function check() {
  const begin = performance.now();
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) say("the page is wider than the window: " + root.scrollWidth + " > " + root.clientWidth);
  const laidOut = performance.now() - begin;
  // What is folded is measured unfolded.
  for (const details of document.querySelectorAll("details")) details.open = true;
  for (const element of document.querySelectorAll(".v")) element.style.contentVisibility = "visible";
  if (root.scrollWidth > root.clientWidth) say("unfolded, the page is wider than the window");
  const count = { pictures: 0, texts: 0, shapes: 0 };
  for (const svg of document.querySelectorAll("svg")) {
    if (count.pictures < 60) picture(svg, count);
    count.pictures += 1;
  }
  for (const element of document.querySelectorAll("h1,h2,h3,p,td,th,summary,a,.chip,.tile,code")) {
    const box = element.getBoundingClientRect();
    if (!words(element)) continue;
    if (!(box.width > 0 && box.height > 0)) say("text of no size: " + words(element));
    if (contrast(rgb(getComputedStyle(element).color), ground(element)) < 4.5) say("text too faint: " + words(element));
  }
  for (const link of document.querySelectorAll("a[href^='#']")) {
    if (!document.getElementById(link.getAttribute("href").slice(1))) say("a link to nowhere: " + link.getAttribute("href"));
  }
  const ids = [...document.querySelectorAll("[id]")].map(element => element.id);
  if (new Set(ids).size !== ids.length) say("an id that stands twice");
  for (const outside of document.querySelectorAll("[src],link,iframe,object,a[href^='http']")) say("something from outside: " + outside.outerHTML.slice(0, 60));
  const cards = document.querySelectorAll(".card[id^='kind-']").length;
  const result = JSON.stringify({ wrong, ...count, cards, took: laidOut });
  const out = document.createElement("pre");
  out.textContent = "pinfold-" + "check:" + result + ":end";
  document.body.append(out);
}
window.addEventListener("load", () => setTimeout(check, 0));
