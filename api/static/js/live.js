// A page that shows the latest run follows it: when another run is committed, its content is loaded again.
const EVERY = 10_000;

const toast = (text) => {
  const box = document.querySelector('.toast');
  box.textContent = text;
  box.hidden = false;
  setTimeout(() => { box.hidden = true; }, 8_000);
};

export function watchCommits(bringToLife) {
  const main = document.querySelector('main[data-run]');
  if (!main) return;
  let shown = main.dataset.run;

  async function look() {
    if (document.hidden) return;
    const answer = await fetch('/pulse', { headers: { accept: 'application/json' } });
    if (answer.status === 401) { location.reload(); return; }
    if (!answer.ok) return;
    const { run } = await answer.json();
    if (!run || run === shown) return;
    const page = await fetch(location.href, { headers: { accept: 'text/html' } });
    const fresh = new DOMParser().parseFromString(await page.text(), 'text/html').querySelector('main');
    if (!page.ok || page.redirected || !fresh) return;
    main.replaceChildren(...fresh.childNodes);
    shown = main.dataset.run = fresh.dataset.run;
    bringToLife(main);
    toast('A new run was committed: these are its figures.');
  }

  const quietly = () => look().catch(() => {}); // the network is away for a moment
  setInterval(quietly, EVERY);
  document.addEventListener('visibilitychange', quietly);
}
