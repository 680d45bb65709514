// Draws the figures of a page: each is a Vega-Lite specification of this site's, with its rows in it.
// Vega runs in `ast` mode with its interpreter, as the content security policy forbids eval.

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const drawn = new Set();

function look() {
  const [ink, quiet, line, grid] = ['ink', 'quiet', 'line', 'grid'].map(colour);
  return {
    background: 'transparent',
    font: 'system-ui, sans-serif',
    view: { stroke: null },
    axis: { labelColor: quiet, titleColor: quiet, gridColor: grid, domainColor: line, tickColor: line, labelFontSize: 11.5, titleFontSize: 12, titleFontWeight: 500, titlePadding: 8, labelPadding: 6, labelOverlap: true },
    legend: { labelColor: ink, titleColor: quiet, orient: 'top', labelFontSize: 12, symbolStrokeWidth: 3, title: null, offset: 4 },
    range: { category: ['blue', 'orange', 'teal', 'violet', 'quiet'].map(colour), heatmap: [colour('heat-0'), colour('heat-1')], ramp: [colour('heat-0'), colour('heat-1')] },
    bar: { color: colour('blue') }, line: { color: colour('blue'), strokeWidth: 2 }, area: { color: colour('blue') }, rule: { color: quiet }, point: { filled: true },
    text: { color: ink },
  };
}

// The names of colours in a specification are this site's: `{"value": "$orange"}`.
const paint = (spec) => JSON.parse(JSON.stringify(spec), (_, value) => (typeof value === 'string' && /^\$[a-z0-9-]+$/.test(value) ? colour(value.slice(1)) : value));

/** Rows that have a day: those of the last days only; 0 keeps all. */
function lastDays(spec, days) {
  if (!days) return spec;
  const cut = (values) => {
    const last = values.reduce((latest, row) => (row.date > latest ? row.date : latest), '');
    if (!last) return values;
    const first = new Date(Date.parse(last) - (days - 1) * 86_400_000).toISOString();
    return values.filter((row) => row.date >= first.slice(0, 10));
  };
  return JSON.parse(JSON.stringify(spec), (name, value) => (name === 'values' && Array.isArray(value) ? cut(value) : value));
}

/** On a phone the entries of a legend are below each other, and long names shorter: they would be cut off. */
function fitted(spec, width) {
  if (width >= 480) return spec;
  return JSON.parse(JSON.stringify(spec), (name, value) => {
    if (name === 'legend' && value?.columns) return { ...value, columns: 1, labelLimit: width - 85 };
    return name === 'axis' && value?.labelLimit ? { ...value, labelLimit: 0.55 * width } : value;
  });
}

const tip = document.body.appendChild(Object.assign(document.createElement('dl'), { className: 'tip', hidden: true }));
tip.setAttribute('aria-hidden', 'true');

function showTip(_, event, item, value) {
  if (!value || typeof value !== 'object') { tip.hidden = true; return; }
  tip.replaceChildren(...Object.entries(value).flatMap(([name, text]) => [
    Object.assign(document.createElement('dt'), { textContent: name }),
    Object.assign(document.createElement('dd'), { textContent: text }),
  ]));
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
  tip.style.top = `${Math.max(8, event.clientY + 18 + height > innerHeight ? event.clientY - height - 10 : event.clientY + 18)}px`;
}

class Chart {
  constructor(figure) {
    this.figure = figure;
    this.place = figure.querySelector('.view');
    this.note = figure.querySelector('.note');
    this.days = 0; // all of them
    this.choose();
  }

  /** The buttons that show the last months only. */
  choose() {
    const buttons = [...this.figure.querySelectorAll('[data-days]')];
    if (!buttons.length) return;
    buttons[0].parentElement.hidden = false;
    this.days = Number(buttons.find((one) => one.getAttribute('aria-pressed') === 'true').dataset.days);
    for (const button of buttons) {
      button.addEventListener('click', () => {
        buttons.forEach((one) => one.setAttribute('aria-pressed', String(one === button)));
        this.days = Number(button.dataset.days);
        this.draw();
      });
    }
  }

  async load() {
    this.say('Drawing …', 'loading');
    try {
      const answer = await fetch(this.figure.dataset.spec, { headers: { accept: 'application/json' } });
      if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail ?? `the site answered ${answer.status}.`);
      this.spec = await answer.json();
    } catch (error) {
      return this.fail(error);
    }
    return this.draw();
  }

  async draw() {
    if (!this.spec) return;
    if (this.spec.usermeta?.empty) { this.say('Nothing to draw yet: no rows.'); return; }
    try {
      const { expressionInterpreter } = await import('../vendor/vega-interpreter.js');
      this.view?.finalize();
      const width = this.place.clientWidth || 400;
      const spec = { ...fitted(lastDays(paint(this.spec), this.days), width), width: 'container', autosize: { type: 'fit-x', contains: 'padding' } };
      const compiled = window.vegaLite.compile(spec, { config: look(), logger: window.vega.logger(window.vega.Error) }).spec;
      this.view = new window.vega.View(window.vega.parse(compiled, null, { ast: true }), {
        expr: expressionInterpreter, renderer: 'svg', container: this.place, hover: true,
      });
      this.view.tooltip(showTip).signal('width', width);
      await this.view.runAsync();
      this.figure.dataset.state = 'drawn';
      this.note.hidden = true;
      drawn.add(this);
    } catch (error) {
      this.fail(error);
    }
  }

  fail(error) {
    this.figure.dataset.state = 'failed';
    this.say(`This chart could not be drawn: ${error.message}`);
    const again = Object.assign(document.createElement('button'), { type: 'button', textContent: 'Try again' });
    again.addEventListener('click', () => this.load());
    this.note.append(again);
  }

  say(text, kind = '') {
    this.note.hidden = false;
    this.note.className = `note ${kind}`;
    this.note.replaceChildren(Object.assign(document.createElement('p'), { textContent: text }));
  }
}

const seen = new IntersectionObserver((entries) => entries.filter((one) => one.isIntersecting).forEach((one) => start(one.target)), { rootMargin: '300px' });

const drawing = new Set();

function start(figure) {
  if (figure.dataset.state !== 'waiting') return;
  seen.unobserve(figure);
  figure.dataset.state = 'drawing';
  const work = new Chart(figure).load().finally(() => drawing.delete(work));
  drawing.add(work);
}

/** Those in sight are drawn first, the others when there is nothing else to do: whoever prints a page has all of them. */
export function drawCharts(root) {
  const figures = [...root.querySelectorAll('.chart[data-spec]:not([data-state])')];
  for (const figure of figures) {
    figure.dataset.state = 'waiting';
    seen.observe(figure);
  }
  drawTheRest(figures);
}

async function drawTheRest(figures) {
  for (const figure of figures) {
    await Promise.all(drawing);
    await idle();
    if (figure.isConnected) start(figure);
  }
}

const idle = () => new Promise((done) => { window.requestIdleCallback ? requestIdleCallback(done) : setTimeout(done, 200); }); // Safari

const redraw = () => drawn.forEach((chart) => (chart.figure.isConnected ? chart.draw() : drawn.delete(chart)));
addEventListener('theme', redraw);
let resizing;
addEventListener('resize', () => { clearTimeout(resizing); resizing = setTimeout(redraw, 200); });
