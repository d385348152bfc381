// An endpoint's filter: the field of it, which the form has too, and the page where one tries it on a message.

import { api, appPath, exactJson, path } from './api.js';
import { Json, MessagePick, members, wrongIn } from './fields.js';
import { EndpointPage, Facts } from './history.js';
import { Button, Code, Form, html, prettyJson, toast, useForm, useLoad, useMay, useState } from './ui.js';

/** An endpoint, and its filter's text as it was given, which may have numbers that JavaScript has not. */
export async function readEndpoint(where, signal) {
  const text = await api('GET', where, null, { signal, text: true });
  const endpoint = JSON.parse(text);
  return { ...endpoint, filterText: endpoint.filter ? prettyJson(members(text).filter) : '' };
}

/** A filter's text as the API takes it. */
export const filterOf = (text) => (text.trim() ? exactJson(text) : null);
/** What keeps a text from being a filter's, by its place. */
export const filterProblem = ({ filter }) => (filter.trim() && wrongIn(filter) ? { 'body.filter': wrongIn(filter) } : {});

const examples = [
  ['A value', { data: { currency: 'EUR' } }],
  ['More than', { data: { amount: { $gt: 100 } } }],
  ['One of several', { topic: { $in: ['invoice.paid', 'invoice.overdue'] } }],
  ['Either, or', { $or: [{ data: { amount: { $gte: 1000 } } }, { metadata: { priority: 'high' } }] }],
].map(([label, filter]) => [label, JSON.stringify(filter, null, 2)]);

const terms = [
  ['data', 'the payload'], ['topic', 'the event type'], ['metadata', 'what the publisher says besides'], ['id, time, tags, channels', 'the message’s own'],
  ['$eq $neq', 'equal, not equal'], ['$gt $gte $lt $lte', 'more, at least, less, at most'], ['$in $nin', 'one of a list, none of it; a part of a text'],
  ['$startsWith $endsWith', 'how a text begins or ends'], ['$exist', 'true: it is there; false: it is not'], ['$not', 'the opposite of what is within'],
  ['$and $or', 'lists of filters: all, or one of them'],
];

/** The form's value `filter`, a text. */
export const FilterField = ({ form: { values: { filter }, set } }) => html`
  <${Json} label="Filter" name="filter" loc="body.filter" optional placed rows="8" value=${filter} onInput=${(text) => set('filter', text)}
    hint="A JSON object that a message must fit to be sent. Empty: every message of its events is."
    after=${(!filter.trim() || examples.some(([, text]) => text === filter)) && html`<span class="muted small">Examples</span>
      ${examples.map(([label, text]) => html`<${Button} class="small" aria-pressed=${text === filter ? 'true' : 'false'} onClick=${() => set('filter', text)}>${label}<//>`)}`} />
  <details><summary>How filters are written</summary><div class="stack"><p class="hint">A plain value must be equal; a list in the message must contain it. Values of different types never compare.</p>
    <${Facts} of=${terms.map(([term, says]) => [html`<code>${term}</code>`, says])} /></div></details>`;

export default function Filter({ app, params: { ep } }) {
  const where = appPath(app, path`/endpoint/${ep}`);
  const of = useLoad((signal) => readEndpoint(where, signal), [where]);
  return html`<${EndpointPage} app=${app} of=${of} ep=${ep} part="/filter" title="Filter" intro="Of the events that it receives, the endpoint gets those messages that fit its filter.">
    ${(endpoint) => html`<${Editor} key=${endpoint.filterText} app=${app} where=${where} endpoint=${endpoint} saved=${of.reload} />`}<//>`;
}

function Editor({ app, where, endpoint, saved }) {
  const may = useMay();
  const form = useForm({ filter: endpoint.filterText });
  const save = async ({ filter }) => {
    await api('PATCH', where, { filter: filterOf(filter) });
    toast(filter.trim() ? 'The filter is saved.' : 'The endpoint has no filter any more.');
    document.querySelector('h1').focus({ preventScroll: true }); // The form is made anew.
    saved();
  };
  return html`<div class="split wide-first">
    ${may('changeEndpoints') ? html`<${Form} form=${form} onSubmit=${save} check=${filterProblem}><div class="card"><${FilterField} form=${form} /></div><//>`
    : html`<div class="card">${endpoint.filter ? html`<${Code} text=${endpoint.filterText} label="Filter" />` : html`<p class="muted">It has none: every message of its events is sent.</p>`}</div>`}
    ${may('readHistory') && html`<${Try} app=${app} where=${where} filter=${form.values.filter} />`}
  </div>`;
}

function Try({ app, where, filter }) {
  const form = useForm({ messageId: '' });
  const [verdict, setVerdict] = useState(null);
  const ask = async ({ messageId }) => {
    setVerdict(null);
    setVerdict({ filter, messageId, ...await api('POST', `${where}/filter/test`, { messageId: messageId.trim(), filter: filterOf(filter) ?? {} }) });
  };
  const check = ({ messageId }) => ({ ...filterProblem({ filter }), ...(!messageId.trim() && { 'body.messageId': 'Choose a message, or enter its ID.' }) });
  const isOld = verdict && (verdict.filter !== filter || verdict.messageId !== form.values.messageId);
  return html`<section class="card stack" aria-labelledby="try"><h2 id="try">Try it</h2>
    <p class="hint">Whether the endpoint would get a message with the filter as it is written here. Nothing is sent.</p>
    <div><${Form} form=${form} guard=${false} submit="Try it" onSubmit=${ask} check=${check}><${MessagePick} app=${app} form=${form} /><//>
      <div role="status">${verdict && !isOld && html`<${Verdict} ...${verdict} />`}</div></div></section>`;
}

const Verdict = ({ matches, eventTypeMatches, channelsMatch, reasons }) => (matches ? html`<div class="notice good section"><p><strong>It matches.</strong> The endpoint gets such a message.</p></div>`
  : html`<div class="notice warn section"><p><strong>It does not match.</strong></p>${[
    !eventTypeMatches && 'The endpoint does not receive its event type.', !channelsMatch && 'None of its channels is one of the endpoint’s.', ...reasons.map(({ message }) => `${message}.`),
  ].filter(Boolean).map((text) => html`<p>${text}</p>`)}</div>`);
