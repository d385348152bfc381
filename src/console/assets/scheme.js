// How a receiver knows an endpoint's requests, and code that does so. Pure. The code is made of templates,
// sample-LANGUAGE.txt, one for each language and all ways of signing.

const VARIABLE = /\{\{\s*([\w.]+)\s*\}\}/;

/** A template's texts and variables; null where a receiver could not follow it. */
function parsed(template) {
  const parts = template.split(VARIABLE).map((part, at) => (at % 2 ? { name: part } : { text: part }));
  return parts.some(({ text }) => /\{[{%#]/.test(text)) ? null : parts.filter(({ text }) => text !== '');
}

/** Where a receiver finds what a template's variable stood for. */
function source(name, profile, headers, groups, method) {
  const words = name.replace(/^(payload|endpoint|message(?!\.id$))\./, '').split(/[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])/).map((word) => word.toLowerCase());
  if (!words[1] && name !== 'timestamp') words.unshift('the');
  const header = Object.keys(headers).find((one) => headers[one].replace(/\s/g, '') === `{{${name}}}`);
  const segments = (profile.url || '').split('/').slice(1).map((segment) => VARIABLE.exec(segment)?.[1]);
  const back = segments.length - segments.lastIndexOf(name);
  const field = name.startsWith('payload.') && method !== 'GET' && name.split('.').slice(1);
  return { words, from: groups.includes(name) ? 'group' : header ? 'header' : segments.includes(name) ? 'segment' : field ? 'field' : null, header, back, field, is: name };
}

/** How a receiver knows the endpoint's requests; null where nothing tells them from anybody's. */
export function schemeOf(profile, endpoint, { isPublicKey, ownHeader } = {}) {
  const family = profile.standardWebhooks;
  const user = endpoint.basicAuth?.username;
  const signature = family
    ? { header: `${family}-signature`, algorithm: isPublicKey ? 'ed25519' : 'hmac-sha256', encoding: 'base64', key: 'whsec',
        content: '{{ message.id }}.{{ timestamp }}.{{ body }}', prefix: isPublicKey ? 'v1a,' : 'v1,', separator: ' ' }
    : profile.signatures?.[0] || (user != null && { header: 'Authorization', algorithm: 'basic' }) || (ownHeader && { header: ownHeader, algorithm: 'static' });
  if (!signature) return null;
  const headers = family ? { [`${family}-id`]: '{{ message.id }}', [`${family}-timestamp`]: '{{ timestamp }}' } : profile.headers || {};
  const algorithm = signature.algorithm.split('-')[0];
  const isShared = ['static', 'basic'].includes(algorithm);
  const content = isShared ? [] : parsed(signature.content || '{{ body }}');
  const format = parsed(signature.format || '{{ signature }}');
  const groups = format?.[1] ? format.flatMap(({ name }) => name || []) : [];
  const names = new Set(content?.flatMap(({ name }) => name || []).filter((name) => name !== 'body'));
  const variables = [...names].map((name) => source(name, profile, headers, groups, endpoint.method));
  // What the profile leaves out comes as null.
  const set = Object.fromEntries(Object.entries(signature).filter(([, value]) => value != null));
  return {
    ...set, algorithm, hash: signature.algorithm.split('-')[1], family, user, content, groups, variables,
    isShared, isClear: Boolean(content && format && variables.every(({ from }) => from)),
    pattern: format?.map(({ name, text }) => (name ? '(.*?)' : text.replace(/[.*+?()|$/]/g, '[$&]'))).join(''),
  };
}

/** Fills a language's template: `?a&!b` before a line is its condition, `@list` repeats it, «name» is a value. */
export function written(template, scheme, withLibrary) {
  const [plain, library] = template.split('%library\n');
  const setting = (key) => new RegExp(`^%${key} ?(.*)$`, 'm').exec(template)?.[1];
  const escape = setting('escape');
  const quoted = (text = '') => JSON.stringify(text).slice(1, -1).replaceAll(escape || '\0', `\\${escape}`);
  const named = (words) => (setting('sigil') || '') + (setting('snake') === undefined
    ? words.map((word, at) => (at ? word[0].toUpperCase() + word.slice(1) : word)).join('') : words.join('_'));
  const plus = setting('plus') || ' + ';
  const env = (name) => name?.toUpperCase().replaceAll('-', '_');
  const variables = scheme.variables.map((one) => ({ ...one, name: named(one.words), header: one.header?.toLowerCase(), HEADER: env(one.header), path: one.field && one.field.map(quoted).join(setting('nest') || '"]["') }));
  const from = (kind) => variables.filter((one) => one.from === kind);
  const groups = scheme.groups.map((group, at) => ({ number: at + 1, name: variables.find(({ is }) => is === group)?.name || named(['signatures']) }));
  // Texts beside each other make one; the body is bytes.
  const parts = scheme.content.reduce((all, { name, text }) => {
    const is = name === 'body' ? null : name ? variables.find((one) => one.is === name).name : `"${quoted(text)}"`;
    return is && all.at(-1) ? [...all.slice(0, -1), all.at(-1) + plus + is] : [...all, is];
  }, []);
  const { key = 'given', encoding = 'hex', algorithm, separator, family, isShared } = scheme;
  const depth = Math.max(0, ...from('segment').map((one) => one.back));
  const is = {
    // Conditions.
    [algorithm]: true, shared: isShared, [`key-${key}`]: algorithm === 'hmac', [encoding]: !isShared,
    many: separator || algorithm === 'ed25519', whole: parts[0] === null && !parts[1], time: variables.some((one) => one.is === 'timestamp'),
    segments: depth > 0, fields: from('field')[0], svix: family === 'svix',
    binary: encoding === 'base64' || key !== 'given' || ['basic', 'ed25519'].includes(algorithm),
    hexes: !isShared && [encoding, key].includes('hex'), strings: separator || depth || algorithm === 'ed25519' || key === 'whsec',
    // Values.
    groups: groups[0] && groups.map(({ name }) => name).join(', '), pattern: scheme.pattern, header: scheme.header.toLowerCase(), HEADER: env(scheme.header),
    hash: scheme.hash, HASH: env(scheme.hash), encoding, depth, family, FAMILY: env(family), module: family === 'svix' ? 'svix' : 'standardwebhooks',
    separator: quoted(separator || ' '), user: quoted(scheme.user), prefix: quoted(scheme.prefix), prefixed: scheme.prefix ? `"${quoted(scheme.prefix)}" ${plus.trim()} ` : '',
  };
  const body = setting('sigil') ? '$body' : 'body';
  const lists = { header: from('header'), segment: from('segment'), field: from('field'), group: groups, part: parts.map((part) => ({ part: part ? (setting('bytes') || '«»').replace('«»', part) : body })) };
  const line = (text, item) => {
    const [, kind, word, rest] = /^([?@])(\S+) ?(.*)$/.exec(text) || [];
    if (kind === '@') return lists[word].flatMap((one) => line(rest, { ...is, ...one }));
    if (kind) return word.split('&').every((one) => (one[0] === '!' ? !is[one.slice(1)] : is[one])) ? line(rest, item) : [];
    return /^%/.test(text) ? [] : [text.replace(/«(\w+)»/g, (_, name) => item[name])];
  };
  return (withLibrary ? library : plain).trimEnd().split('\n').flatMap((text) => line(text, is)).join('\n');
}
