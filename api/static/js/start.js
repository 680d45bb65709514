// Starts a run from the form that operators see; the key makes a second click harmless.
export function startForms(root) {
  for (const form of root.querySelectorAll('form[data-start]')) {
    const key = crypto.randomUUID();
    form.addEventListener('submit', async (event) => {
      event.preventDefault();
      const said = form.querySelector('[role="status"]');
      const given = new FormData(form);
      const options = { as_of: given.get('as_of'), dry_run: given.has('dry_run') };
      said.textContent = 'Starting …';
      try {
        const answer = await fetch('/runs', {
          method: 'POST',
          headers: { 'content-type': 'application/json', accept: 'application/json', 'idempotency-key': key },
          body: JSON.stringify({ deployment: 'nightly', options }),
        });
        const body = await answer.json();
        if (!answer.ok) throw new Error([body.detail, body.remedy].filter(Boolean).join(' '));
        location.assign(`/history/${body.id}`);
      } catch (error) {
        said.textContent = `Not started: ${error.message}`;
      }
    });
  }
}
