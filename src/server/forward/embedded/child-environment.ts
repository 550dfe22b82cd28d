export type Environment = Readonly<Record<string, string | undefined>>;

/** What a program written in Go reads itself. */
const programVariables = /^(GOGC|GOMAXPROCS|GOMEMLIMIT|TZ)$/;
/** What Go's and Debian's tools need to download, build and unpack: where they may write, the way out, whom to trust. */
const installerVariables =
  /^(PATH|HOME|USER|LOGNAME|TMPDIR|TZ|LANG|LC_[A-Z]+|XDG_(CACHE|CONFIG)_HOME|(HTTPS?|ALL|NO)_PROXY|(https?|all|no)_proxy|SSL_CERT_(FILE|DIR)|GO[A-Z0-9]+|CGO_ENABLED|NETRC|APT_CONFIG)$/;

/** The environment of a nats-server: ours holds secrets, which a child would show to whoever may look at it. */
export function programEnvironment(env: Environment = process.env): NodeJS.ProcessEnv {
  return pick(env, programVariables);
}

/** The environment of the tools that get a nats-server. */
export function installerEnvironment(env: Environment): NodeJS.ProcessEnv {
  return pick(env, installerVariables);
}

function pick(env: Environment, names: RegExp): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => names.test(name)));
}
