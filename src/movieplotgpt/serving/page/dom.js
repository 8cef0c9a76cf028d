/** Elements without HTML: whatever a person or a model wrote goes in as text. */

const SVG = "http://www.w3.org/2000/svg";

/** An element; attributes that begin with "on" are listeners, and those that are false or null are left out. */
export function make(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function draw(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

export function find(selector) {
  return document.querySelector(selector);
}

/** Put what floats below its anchor (above it where there is no room), inside the window. */
export function place(panel, anchor) {
  const at = anchor.getClientRects()[0], size = panel.getBoundingClientRect();
  const left = Math.max(8, Math.min(at.left, document.documentElement.clientWidth - size.width - 8));
  const below = at.bottom + 6, above = at.top - size.height - 6;
  panel.style.left = `${left + scrollX}px`;
  panel.style.top = `${(below + size.height > innerHeight && above > 0 ? above : below) + scrollY}px`;
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}
