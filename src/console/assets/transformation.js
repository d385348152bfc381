// An endpoint's transformation: requests of the receiver's own form, by templates. What they make of messages is
// shown before it is saved, and what was saved before can be taken back.

import { api, appPath, list, path } from './api.js';
import { MessagePick, Pairs, filled, object, pairs } from './fields.js';
import { EndpointPage, Facts, loadMessage, sayTransformation, useEndpoint } from './history.js';
import { Badge, Button, Code, Dialog, ErrorBox, Field, Form, Loaded, Table, Time, html, toast, useForm, useLoad, useMay, useState } from './ui.js';

const valuesOf = (of) => ({ body: of?.body ?? '', method: of?.method ?? '', contentType: of?.contentType ?? '', headers: pairs(of?.headers) });
/** As the API has it: only what is there, null for nothing. */
function transformationOf({ headers, ...values }) {
  const rows = filled(headers);
  const given = Object.entries({ ...values, headers: rows.length ? object(rows) : '' }).filter(([, value]) => value);
  return given.length ? Object.fromEntries(given) : null;
}

export default function Transformation({ app, params: { ep } }) {
  const may = useMay();
  const of = useEndpoint(app, ep);
  const where = appPath(app, path`/endpoint/${ep}`);
  return html`<${EndpointPage} app=${app} of=${of} ep=${ep} part="/transformation" title="Transformation"
    intro="Templates that make the request your receiver wants. What they leave out stays as the profile makes it; signatures are of what is sent.">${(endpoint) => html`
    <${may('changeEndpoints') ? Editor : Shown} key=${JSON.stringify(endpoint.transformation)} app=${app} where=${where} of=${endpoint.transformation} done=${of.reload} />
    <${Versions} where=${where} at=${endpoint.updatedAt} done=${of.reload} />`}<//>`;
}

/** A transformation to be read. */
function Parts({ of }) {
  const facts = [of?.method && ['Method', of.method], of?.contentType && ['Content type', of.contentType], ...Object.entries(of?.headers ?? {}).map(([name, value]) => [name, html`<code>${value}</code>`])];
  return of ? html`${facts.some(Boolean) && html`<${Facts} of=${facts} />`}${of.body && html`<div class="wrap"><${Code} text=${of.body} label="Body" /></div>`}` : html`<p class="muted">None: requests are as the profile makes them.</p>`;
}

const Shown = ({ of }) => html`<section class="card stack" aria-label="Transformation"><${Parts} of=${of} /></section>`;

function Editor({ app, where, of, done }) {
  const form = useForm(valuesOf(of));
  const { values, set } = form;
  const starts = useLoad((signal) => list('/transformation-starting-points', null, { signal }), []).data?.data ?? [];
  const [start, setStart] = useState('');
  const begin = (name) => {
    setStart(name);
    const chosen = valuesOf(starts.find((one) => one.name === name)?.transformation);
    if (name) for (const [key, value] of Object.entries(chosen)) set(key, value, 'body.transformation');
  };
  const save = async () => {
    const transformation = transformationOf(values);
    await api('PATCH', where, { transformation });
    toast(transformation ? 'The transformation is saved.' : 'Requests are as the profile makes them again.');
    document.querySelector('h1').focus({ preventScroll: true }); // The form is made anew.
    done();
  };
  const at = (name) => `body.transformation.${name}`;
  return html`<${Form} form=${form} onSubmit=${save}><div class="card">
      <${Field} label="Start from" type="select" value=${start} onInput=${begin} loc="" options=${[['', 'Choose…'], ['-', 'Nothing: as the profile makes it'], ...starts.map(({ name }) => [name, name])]}
        hint=${starts.find(({ name }) => name === start)?.description ?? 'Fills in the fields below.'} />
      <${Field} label="Body" name="body" loc=${at('body')} type="textarea" rows="12" class="code-input" spellcheck=${false}
        hint=${html`A template, such as <code>${'{"id": {{ message.id }}, "total": {{ payload.total }}}'}</code>. It may name <code>payload</code>, <code>message</code>, <code>endpoint</code>, <code>attempt</code>, <code>timestamp</code> and <code>server</code>.`} />
      <div class="split"><${Field} label="Content type" name="contentType" loc=${at('contentType')} optional spellcheck=${false} placeholder="application/json" />
        <${Field} label="Method" name="method" loc=${at('method')} type="select" options=${[['', 'As the endpoint says'], ...['POST', 'PUT', 'PATCH'].map((one) => [one, one])]} /></div>
      <${Pairs} legend="Headers" hint="Their values are templates, too." name="headers" locs=${[at('headers')]} add="Add Header" form=${form} />
    </div><//>
    ${useMay()('readHistory') && html`<${Preview} app=${app} where=${where} edited=${form} />`}`;
}

/** What the form's transformation makes of messages, beside what was published. */
function Preview({ app, where, edited }) {
  const form = useForm({ messageId: '' });
  const [made, setMade] = useState(null);
  const preview = async ({ messageId }) => {
    const id = messageId.trim();
    const transformation = transformationOf(edited.values);
    try {
      const { data } = await api('POST', `${where}/transformation-preview`, { transformation, ...(id && { messageIds: [id] }) });
      setMade(await Promise.all(data.map(async (one) => ({ ...one, payload: (await loadMessage(app, one.messageId))[1] }))));
    } catch (error) {
      setMade(null);
      edited.setState({ busy: false, error: null, fields: error.fields ?? {} }); // Beside what is wrong.
      throw error;
    }
  };
  return html`<div class="section-head"><h2>Preview</h2></div>
    <${Form} form=${form} guard=${false} submit="Preview" onSubmit=${preview}><div class="card"><p class="hint">What the templates above make of messages, saved or not. Nothing is sent.</p>
      <${MessagePick} app=${app} form=${form} any="The last three that the endpoint gets" /></div><//>
    <div role="status">${made && !made.length && html`<p class="muted section">No message for this endpoint is in the log yet.</p>`}</div>
    ${made?.map(({ messageId, eventType, payload, request, error }) => html`<section class="section" aria-label=${`Preview of ${messageId}`}>
      <h3>${eventType} <span class="mono muted small">${messageId}</span></h3>
      <div class="split section wrap"><div class="card stack"><h4>As it was published</h4>${payload === null ? html`<p class="muted">The payload was deleted.</p>` : html`<${Code} label=${`Payload of ${messageId}`} text=${payload} json />`}</div>
        <div class="card stack"><h4>As it would be sent</h4>${error ? html`<div class="notice bad"><p>${sayError(error)}</p></div>` : html`
          <p class="mono break"><strong>${request.method}</strong> ${request.url}</p><${Code} label=${`Headers of ${messageId}`} text=${Object.entries(request.headers).map((pair) => pair.join(': ')).join('\n')} copy=${false} />
          ${request.body ? html`<${Code} label=${`Body of ${messageId}`} text=${request.body} json />` : html`<p class="hint">Without a body.</p>`}`}</div></div></section>`)}`;
}

const sayError = ({ key, line, message }) => `${[key, line && `line ${line}`].filter(Boolean).join(', ')}: ${message}`;

function Versions({ where, at, done }) {
  const mayChange = useMay()('changeEndpoints');
  const [open, setOpen] = useState(null);
  const [error, setError] = useState(null);
  const load = useLoad((signal) => list(`${where}/transformation-versions`, null, { signal }), [where, at]);
  const show = (version) => {
    setError(null);
    setOpen(version);
  };
  const restore = async () => {
    await api('POST', `${where}/transformation-versions/restore`, { number: open.number });
    setOpen(null);
    toast(`Version ${open.number} is in effect again.`);
    done();
  };
  const columns = [
    { label: 'Version', cell: ({ number, current }) => html`${number} ${current && html`<${Badge} kind="good">In effect<//>`}` },
    { label: 'Saved', cell: ({ savedAt }) => html`<${Time} at=${savedAt} />` },
    { label: 'Makes', cell: ({ transformation: of }) => (of ? sayTransformation(of) : 'As the profile makes it') },
    { label: '', class: 'end', cell: (version) => html`<${Button} class="small" aria-label=${`View version ${version.number}`} onClick=${() => show(version)}>View<//>` },
  ];
  return html`<${Loaded} of=${load}>${({ data }) => data.length > 0 && html`<div class="section-head"><h2>Versions</h2></div><${Table} caption="Versions" columns=${columns} rows=${data} rowKey=${({ number }) => number} />`}<//>
    ${open && html`<${Dialog} wide title=${`Version ${open.number}`} onClose=${() => setOpen(null)} foot=${html`<${Button} onClick=${() => setOpen(null)}>Close<//>
      ${mayChange && !open.current && html`<${Button} kind="primary" onClick=${() => restore().catch(setError)}>Restore<//>`}`}>
      ${error && html`<${ErrorBox} error=${error} />`}<${Parts} of=${open.transformation} /><//>`}`;
}
