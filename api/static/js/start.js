// Starts a run from the form that operators see; the key makes a second click harmless.
export function startForms(root) {
  for (const form of root.querySelectorAll('form[data-start]')) {
    let key, asked;
    form.addEventListener('submit', async (event) => {
      event.preventDefault();
      const said = form.querySelector('[role="status"]');
      const given = new FormData(form);
      const options = { as_of: given.get('as_of'), dry_run: given.has('dry_run') };
      const body = JSON.stringify({ deployment: 'nightly', options });
      if (body !== asked) [key, asked] = [newKey(), body]; // a key is that of what it asked for
      said.textContent = 'Starting …';
      try {
        const answer = await fetch('/runs', {
          method: 'POST',
          headers: { 'content-type': 'application/json', accept: 'application/json', 'idempotency-key': key },
          body,
        });
        const run = await answer.json();
        if (!answer.ok) throw new Error([run.detail, run.remedy].filter(Boolean).join(' '));
        location.assign(`/history/${run.id}`);
      } catch (error) {
        said.textContent = `Not started: ${error.message}`;
      }
    });
  }
}

/** Not crypto.randomUUID, which a browser has over HTTPS and on its own machine only. */
const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16)).join('-');
