// What every page does. Each part is optional: without scripts the pages still read, filter and page.
import { drawCharts } from './charts.js';
import { followRun } from './run.js';
import { watchCommits } from './live.js';
import { enhanceTables } from './table.js';
import { startForms } from './start.js';

function menu() {
  const side = document.querySelector('.side');
  const button = document.querySelector('.menu');
  if (!side || !button) return;
  side.classList.add('scripted');
  button.addEventListener('click', () => {
    const open = side.classList.toggle('open');
    button.setAttribute('aria-expanded', String(open));
  });
}

function theme() {
  const button = document.querySelector('[data-theme-toggle]');
  const name = () => button.setAttribute('aria-pressed', String(document.documentElement.dataset.theme === 'dark'));
  if (!button) return;
  button.addEventListener('click', () => window.toggleTheme());
  addEventListener('theme', name);
  name();
}

/** Choices that take effect at once; their buttons stay for those who move by keyboard. */
export function submitOnChange(root = document) {
  for (const form of root.querySelectorAll('form[data-auto]')) {
    form.addEventListener('change', (event) => {
      if (event.target.matches('select, input[type="date"]') && form.reportValidity()) form.requestSubmit();
    });
  }
}

export function bringToLife(root = document) {
  submitOnChange(root);
  enhanceTables(root);
  drawCharts(root);
  followRun(root);
  startForms(root);
}

menu();
theme();
bringToLife();
watchCommits(bringToLife);
