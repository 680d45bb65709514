// Before anything is drawn: the theme that was chosen here, else the system's.
(() => {
  const system = matchMedia('(prefers-color-scheme: dark)');
  const chosen = () => { try { return localStorage.getItem('theme'); } catch { return null; } };
  const apply = () => {
    document.documentElement.dataset.theme = chosen() ?? (system.matches ? 'dark' : 'light');
    dispatchEvent(new Event('theme'));
  };
  system.addEventListener('change', apply);
  window.toggleTheme = () => {
    const next = document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark';
    try { localStorage.setItem('theme', next); } catch { /* it is kept for this page only */ }
    document.documentElement.dataset.theme = next;
    dispatchEvent(new Event('theme'));
  };
  apply();
})();
