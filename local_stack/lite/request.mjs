// The request being answered. lite hands its adapters no headers, and the file store needs some of them.
import { AsyncLocalStorage } from 'node:async_hooks';

const storage = new AsyncLocalStorage();

/** Facts of the current request; what the file store finds out on the way is written back into it. */
export const currentRequest = () => storage.getStore() ?? {};

export function withRequest(request, answer) {
  const length = request.headers.get('content-length');
  const multipart = (request.headers.get('content-type') ?? '').startsWith('multipart/');
  const facts = {
    method: request.method,
    range: request.headers.get('range'),
    // A multipart body is longer than its file.
    contentLength: length !== null && !multipart ? Number(length) : undefined,
    unsatisfiable: undefined, // size of the file that a Range reaches past
    tooLarge: false,
    noSuchKey: false,
  };
  return storage.run(facts, () => answer(facts));
}
