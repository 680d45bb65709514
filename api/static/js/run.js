// The page of a run that is not over yet follows its stages; at its end the page is loaded once more.
export function followRun(root) {
  const place = root.querySelector('[data-follow]');
  if (!place) return;
  const source = new EventSource(place.dataset.follow);
  source.addEventListener('stage', (event) => {
    const { status, stage } = JSON.parse(event.data);
    place.textContent = stage ? `${status}: ${stage}` : status;
  });
  source.addEventListener('end', () => { source.close(); location.reload(); });
}
