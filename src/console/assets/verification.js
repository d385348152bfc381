// Whether an endpoint's URL has shown that its owner wants the messages: the notice of an endpoint that is
// not verified yet, on its page. It follows the challenges by itself until one is answered rightly.

import { api } from './api.js';
import { Button, Code, Time, announce, html, isUnverified, toast, useEffect, useId, useLoad, useMay, useRef } from './ui.js';

const CHALLENGE = '{"type": "postrider.verification", "timestamp": "…", "challenge": "…"}';

/** Nothing where the endpoint is verified, or the server verifies none. `reload` reads the endpoint anew. */
export const Verification = ({ endpoint, where, reload }) => isUnverified(endpoint) && html`<${Unverified} endpoint=${endpoint} where=${where} reload=${reload} />`;

function Unverified({ endpoint, where, reload }) {
  const may = useMay();
  const id = useId();
  const notice = useRef();
  const load = useLoad(async (signal) => (await api('GET', where, null, { signal })).verification, [endpoint], { every: endpoint.disabled || endpoint.hold ? undefined : 2000 });
  const { status, lastAttemptAt, lastError, nextAttemptAt } = load.data ?? endpoint.verification;
  useEffect(() => {
    if (status !== 'verified') return;
    if (notice.current.contains(document.activeElement)) document.querySelector('h1').focus(); // The notice goes.
    toast('The endpoint is verified. What was held is sent now.');
    reload();
  }, [status]);
  const first = useRef(lastAttemptAt);
  useEffect(() => { if (lastError && lastAttemptAt !== first.current) announce(`The challenge failed. ${lastError}`); }, [lastAttemptAt]);
  const ask = async () => {
    try {
      load.set(await api('POST', `${where}/verify`));
      announce('A challenge is on its way.');
    } catch (error) {
      toast(error.message, 'bad');
    }
  };
  const next = endpoint.disabled ? 'The endpoint is disabled: challenges are sent once it is enabled.'
    : endpoint.hold ? 'The operator holds the endpoint: challenges are sent once it is released.'
    : !nextAttemptAt ? `No more challenges are sent${may('sendAgain') ? ' until you ask for one' : ''}.`
      : Date.parse(nextAttemptAt) <= Date.now() ? 'A challenge is on its way.'
        : html`The next challenge is sent <${Time} at=${nextAttemptAt} />.`;
  return html`<section class="notice warn" aria-labelledby=${id} ref=${notice}><h2 id=${id}>Not verified yet</h2>
    <p>Messages are held until this URL has answered a challenge, which shows that its owner wants them. A challenge is a signed POST with the body below. Answer it with status 200 and the value of <code>challenge</code> as the body.</p>
    <div class="wrap"><${Code} text=${CHALLENGE} label="Body of a challenge" copy=${false} /></div>
    ${lastError && html`<p><strong>The last challenge failed</strong> (<${Time} at=${lastAttemptAt} />). ${lastError}</p>`}
    <p>${next}</p>
    ${may('sendAgain') && !endpoint.disabled && !endpoint.hold && html`<${Button} onClick=${ask}>Send a challenge now<//>`}
  </section>`;
}
