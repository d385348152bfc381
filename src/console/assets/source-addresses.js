// Where requests come from, for the receiver's firewall; nothing where the operator does not say.

import { api } from './api.js';
import { html, useLoad } from './ui.js';

export const useSourceAddresses = () => useLoad((signal) => api('GET', '/delivery-addresses', null, { signal }), []).data?.data ?? [];

/** A line under the URL that is entered. */
export function SourceAddresses() {
  const addresses = useSourceAddresses();
  return addresses.length > 0 && html`<p class="hint">Requests come from: <span class="mono">${addresses.join(', ')}</span></p>`;
}
