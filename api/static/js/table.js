// Sorting, filtering and paging without a new page: the server sends the same page, its table is taken out of it.
let latest; // what was asked for last: an answer to an earlier click that arrives after it is dropped

async function replace(section, url) {
  latest = url;
  section.setAttribute('aria-busy', 'true');
  try {
    const answer = await fetch(url, { headers: { accept: 'text/html' } });
    if (!answer.ok || answer.redirected) throw new Error(answer.statusText);
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    if (url !== latest) return;
    const fresh = page.getElementById(section.id);
    if (!fresh) throw new Error('no table');
    const focused = document.activeElement?.dataset?.keep;
    section.replaceWith(fresh);
    enhance(fresh);
    history.replaceState(null, '', url);
    if (focused) fresh.querySelector(`[data-keep="${CSS.escape(focused)}"]`)?.focus();
  } catch {
    if (url !== latest) return;
    location.assign(url); // the plain way, which also shows what is wrong
  }
}

function enhance(section) {
  section.addEventListener('click', (event) => {
    const link = event.target.closest('a[data-keep]');
    if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    replace(section, link.href);
  });
  section.addEventListener('submit', (event) => {
    event.preventDefault();
    const query = new URLSearchParams([...new FormData(event.target)].filter(([, value]) => value !== ''));
    replace(section, `${location.pathname}?${query}`);
  });
}

export function enhanceTables(root) {
  root.querySelectorAll('section[data-table]').forEach(enhance);
}
