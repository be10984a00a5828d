//! What is mutated, and what it is mutated with.

pub(super) const FILE: &str = r#"
database_url = "postgres://app:kanarienvogel@db.internal/shop?sslmode=require"
[pool]
max_connections = 20
connection_timeout = 2.5
[db]
host = ["a.internal", "b.internal"]
password = "kanarienvogel"
ssl_mode = "verify-full"
[redis]
enabled = true
url = "rediss://:kanarienvogel@localhost:6380/3?protocol=resp3"
[http]
enabled = true
base_url = "https://app:kanarienvogel@api.internal/v1"
headers = ["Accept:text/plain", "X-Key:kanarienvogel"]
[mongodb]
user = "app"
password = "kanarienvogel"
[batch]
size = 100
[security]
certificate_validation = false
[exporter]
bind = "127.0.0.1:9464"
[pools.reports]
backend = "postgres"
host = "localhost"
password = "kanarienvogel"
max_connections = 4
[pools.cache]
backend = "redis"
host = "localhost"
db = 3
[pools.documents]
backend = "mongodb"
url = "mongodb://app:kanarienvogel@localhost:27017/shop?authSource=admin&w=majority"
[pools.prices]
backend = "http"
url = "http://localhost:8080/v1"
bearer_token = "kanarienvogel"
[pools.nodes]
backend = "redis"
host = ["localhost:6379", "[::1]", "127.0.0.1"]
port = [6380, 6381, 6382]
password = "kanarienvogel"
balance = "weighted"
weights = [1, 2.5, 1e3]
ejection_time = 0.5
slow_start = 0
[pools.shops]
backend = "http"
url = ["https://app:kanarienvogel@a.internal/v1", "https://b:kanarienvogel@b.internal"]
balance = "peak-ewma"
attempt_timeout = 1
[pools.replicas]
backend = "postgres"
url = "postgres://app:kanarienvogel@localhost:5433,127.0.0.1/d"
balance = "round-robin"
replica_lag_limit = 5
resolve_interval = 30
"#;

pub(super) const URLS: [&str; 15] = [
    "postgres://app:kanarienvogel@db1:5433,[::1],%2Frun%2Fpg/d%20b?sslmode=verify-full&connect_timeout=7",
    "postgresql://app:kanarienvogel@localhost/app?target_session_attrs=read-write&application_name=x",
    "postgres:///app?host=/run/postgresql&user=app&password=kanarienvogel&options=-c%20a=b",
    "postgres://localhost:5432/app?keepalives_idle=30&tcp_user_timeout=1000&sslrootcert=/ca.pem",
    "redis://app:kanarienvogel@localhost:6379/3",
    "rediss://:kanarienvogel@cache.internal:7000/5?protocol=resp3#insecure",
    "redis://[::1]/?client_name=x&user=app&password=kanarienvogel",
    "unix:///run/redis.sock?db=2&pass=kanarienvogel",
    "mongodb://app:kanarienvogel@db1:27017,db2/shop?authSource=admin&replicaSet=rs0&w=majority",
    "mongodb://app:kanarienvogel@localhost/?tls=true&tlsCAFile=/ca.pem&readPreference=nearest",
    "mongodb://localhost:27017/shop?retryWrites=false&maxPoolSize=7&connectTimeoutMS=100",
    "https://app:kanarienvogel@api.example.com:8443/v1/",
    "http://localhost:8080",
    "http://[::1]/a%20b",
    "https://app:kanarienvogel@a.internal:8443/v1, http://u:kanarienvogel@localhost,https://b",
];

/// What is put into texts and values.
pub(super) const PIECES: [&str; 67] = [
    "",
    " ",
    "\0",
    "\n",
    "\r\n",
    "\t",
    "\u{1b}[31m",
    "\u{feff}",
    "ü",
    "🐦",
    "%",
    "%00",
    "%zz",
    "%40",
    "@",
    "/",
    "//",
    "://",
    "?",
    "#",
    "&",
    "=",
    ":",
    ",",
    ";",
    "[",
    "]",
    "[[",
    "[::1]",
    "{",
    "}",
    "\"",
    "\"\"\"",
    "'",
    "\\",
    "\\u0000",
    ".",
    "..",
    "-",
    "-1",
    "0",
    "1",
    "65535",
    "65536",
    "4294967295",
    "18446744073709551616",
    "1e400",
    "1e-400",
    "1e-12",
    "1e18",
    "NaN",
    "inf",
    "-inf",
    "true",
    "maybe",
    "localhost",
    ",http://",
    ",localhost:1",
    "none",
    "weighted",
    "round-robin",
    "1,2",
    "a=1\n",
    "[pools.x]\n",
    "backend=\"http\"\n",
    "tls=true",
    "loadBalanced=true",
];
