use proptest::prelude::*;

use super::{MAX_TEXT, Origin, events, recognise};

/// `text` is read as `entity at position: message`.
fn check(text: &str, origin: Origin, expected: &str) {
    let event = recognise("shop", text).unwrap_or_else(|| panic!("nothing found in {text}"));
    assert_eq!((event.origin, event.to_string().as_str()), (origin, expected), "{text}");
    assert_eq!(event.service, "shop");
}

#[test]
fn java_names_the_innermost_cause_and_its_own_frame() {
    check(
        "2026-01-02 03:04:05 ERROR [http-1] c.s.Pay - failed\n\
         java.lang.IllegalStateException: could not pay order 812\n\
         \tat com.shop.Pay.run(Pay.java:40)\n\
         \tat java.base/java.lang.Thread.run(Thread.java:840)\n\
         Caused by: java.sql.SQLTimeoutException: no connection within 3000 ms\n\
         \tat java.sql/java.sql.DriverManager.get(DriverManager.java:12)\n\
         \tat com.shop.Pool.take(Pool.java:88)\n\
         \t... 12 more",
        Origin::Java,
        "java.sql.SQLTimeoutException at Pool.java:88 in com.shop.Pool.take: no connection within <*> ms",
    );
    check(
        "Exception in thread \"main\" java.lang.OutOfMemoryError: Java heap space\n\tat com.shop.A.b(A.java:1)",
        Origin::Java,
        "java.lang.OutOfMemoryError at A.java:1 in com.shop.A.b: Java heap space",
    );
}

#[test]
fn python_names_the_last_exception_and_the_innermost_own_frame() {
    check(
        "Traceback (most recent call last):\n\
         \x20 File \"/app/pay.py\", line 12, in pay\n\
         \x20   charge(order)\n\
         \x20 File \"/usr/lib/python3/site-packages/requests/api.py\", line 99, in get\n\
         \x20   raise Timeout\n\
         requests.exceptions.ConnectionError: HTTPConnectionPool(host='db', port=5432)",
        Origin::Python,
        "requests.exceptions.ConnectionError at /app/pay.py:12 in pay: HTTPConnectionPool(host='db', port=<*>)",
    );
    check(
        "Traceback (most recent call last):\n  File \"a.py\", line 3, in <module>\nKeyboardInterrupt",
        Origin::Python,
        "KeyboardInterrupt at a.py:3 in <module>",
    );
}

#[test]
fn panics_of_go_and_rust_name_the_place() {
    check(
        "panic: runtime error: index out of range [5] with length 3\n\n\
         goroutine 1 [running]:\n\
         main.pay({0xc000010000, 0x3})\n\
         \t/app/pay.go:12 +0x1d\n\
         main.main()\n\
         \t/app/main.go:7 +0x2a",
        Origin::Go,
        "runtime error at /app/pay.go:12 in main.pay: index out of range [<*>] with length <*>",
    );
    check(
        "panic: runtime error: invalid memory address or nil pointer dereference\n\
         [signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x48]\n\n\
         goroutine 7 [running]:\n\
         panic({0x1, 0x2})\n\
         \t/usr/local/go/src/runtime/panic.go:914 +0x21f\n\
         shop/pay.(*Pool).Take(...)\n\
         \t/app/pool.go:88",
        Origin::Go,
        "runtime error at /app/pool.go:88 in shop/pay.(*Pool).Take: invalid memory address or nil pointer dereference",
    );
    check(
        "fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [chan receive]:\nmain.main()\n\t/app/main.go:7 +0x2a",
        Origin::Go,
        "fatal error at /app/main.go:7 in main.main: all goroutines are asleep - deadlock!",
    );
    check(
        "thread 'tokio-runtime-worker' panicked at src/pool.rs:88:13:\ncalled `Option::unwrap()` on a `None` value",
        Origin::Rust,
        "panic at src/pool.rs:88: called `Option::unwrap()` on a `None` value",
    );
    check(
        "thread 'main' panicked at 'index out of bounds: the len is 3', src/main.rs:4:5",
        Origin::Rust,
        "panic at src/main.rs:4: index out of bounds: the len is <*>",
    );
}

#[test]
fn node_and_dotnet_skip_frames_of_the_runtime() {
    check(
        "/app/pay.js:10\n    throw new TypeError('x')\n\n\
         TypeError: Cannot read properties of undefined (reading 'id')\n\
         \x20   at node:internal/process:1:2\n\
         \x20   at async charge (/app/pay.js:10:15)",
        Origin::Node,
        "TypeError at /app/pay.js:10 in charge: Cannot read properties of undefined (reading 'id')",
    );
    check(
        "Unhandled exception. System.InvalidOperationException: cannot pay ---> System.TimeoutException: waited 30 s\n\
         \x20  at System.Threading.Wait(Int32 ms)\n\
         \x20  at Shop.Pool.Take(Int32 n) in /src/Pool.cs:line 88",
        Origin::DotNet,
        "System.TimeoutException at /src/Pool.cs:88 in Shop.Pool.Take: waited <*> s",
    );
}

#[test]
fn php_and_ruby() {
    check(
        "PHP Fatal error:  Uncaught TypeError: pay(): Argument #1 must be of type int in /var/www/pay.php:12",
        Origin::Php,
        "TypeError at /var/www/pay.php:12: pay(): Argument <*> must be of type int",
    );
    check(
        "PHP Warning:  Undefined variable $order in /var/www/pay.php on line 7",
        Origin::Php,
        "Warning at /var/www/pay.php:7: Undefined variable $order",
    );
    check(
        "app/models/order.rb:12:in `pay': undefined method `id' for nil (NoMethodError)",
        Origin::Ruby,
        "NoMethodError at app/models/order.rb:12 in pay: undefined method `id' for nil",
    );
}

#[test]
fn databases_and_servers_have_codes() {
    check(
        "2026-01-02 03:04:05.123 UTC [31] ERROR:  duplicate key value violates unique constraint \"orders_pkey\"\n\
         2026-01-02 03:04:05.123 UTC [31] DETAIL:  Key (id)=(5) already exists.",
        Origin::PostgreSql,
        "23505: duplicate key value violates unique constraint \"orders_pkey\"",
    );
    check(
        "ERROR:  40P01: deadlock detected\nLOCATION:  DeadLockReport, deadlock.c:1148",
        Origin::PostgreSql,
        "40P01 at deadlock.c:1148 in DeadLockReport: deadlock detected",
    );
    check("FATAL:  sorry, too many clients already", Origin::PostgreSql, "53300: sorry, too many clients already");
    check("ERROR:  relation \"x\" does not exist", Origin::PostgreSql, "42P01: relation \"x\" does not exist");
    check("ERROR:  boom", Origin::PostgreSql, "ERROR: boom");
    check(
        "2026/01/02 03:04:05 [error] 31#31: *7 connect() failed (111: Connection refused) while connecting to upstream, \
         client: 10.0.0.1, server: shop, request: \"GET / HTTP/1.1\"",
        Origin::Nginx,
        "ECONNREFUSED at connect: connect() failed (<*>: Connection refused) while connecting to upstream",
    );
    check(
        "[ 812.4] Memory cgroup out of memory: Killed process 4242 (java) total-vm:812kB, anon-rss:5kB",
        Origin::Kernel,
        "oom-kill at java: out of memory: Killed process <*> (java) total-vm:<*>, anon-rss:<*>",
    );
}

#[test]
fn single_lines_name_types_codes_and_callers() {
    check(
        "level=error caller=pool.go:88 msg=\"no connection\" err=\"dial tcp 10.0.0.1:5432: connect: connection refused\"",
        Origin::Line,
        "ECONNREFUSED at pool.go:88: no connection",
    );
    check(r#"{"level":"error","message":"write failed","error":"ENOSPC"}"#, Origin::Line, "ENOSPC: write failed");
    check("WARN retry after ValueError: bad amount 12", Origin::Line, "ValueError: bad amount <*>");
    check("2026-01-02 ERROR cannot pay", Origin::Line, "error: <*> ERROR cannot pay");
}

#[test]
fn what_is_no_error_is_none() {
    for text in [
        "",
        "GET /errors 200",
        "0 errors found",
        "error rate is fine",
        "level=info msg=\"no error\"",
        "Traceback (most recent call last):",
        "at home",
        "session opened for user root",
        "no error in here",
        "the ErrorBudget is fine",
    ] {
        let found = recognise("shop", text);
        let excused = text.starts_with("error ");
        assert!(excused || found.is_none(), "{text}: {found:?}");
    }
}

#[test]
fn lines_of_one_trace_are_one_event() {
    let lines = [
        "started",
        "Exception in thread \"main\" java.lang.IllegalStateException: bad",
        "\tat com.shop.A.b(A.java:1)",
        "Caused by: java.io.IOException: disk",
        "\tat com.shop.C.d(C.java:2)",
        "Traceback (most recent call last):",
        "  File \"a.py\", line 3, in pay",
        "    pay()",
        "ValueError: bad",
        "done",
    ];
    // A Python trace begins anew although its first line could follow another trace.
    let found: Vec<String> = events("shop", lines).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["java.io.IOException at C.java:2 in com.shop.C.d: disk", "ValueError at a.py:3 in pay: bad"]);
}

#[test]
fn long_traces_keep_beginning_and_end() {
    let frames = "\tat com.shop.A.b(A.java:1)\n".repeat(100_000);
    let text = format!("java.lang.StackOverflowError\n{frames}");
    check(&text, Origin::Java, "java.lang.StackOverflowError at A.java:1 in com.shop.A.b");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(events("shop", lines.iter().copied()).len(), 1);
}

/// Pieces from which near misses of all formats arise.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("Traceback (most recent call last):\n"),
        Just("  File \"a.py\", line "),
        Just("\", line "),
        Just(", in "),
        Just("panic: "),
        Just("goroutine 1"),
        Just("\n"),
        Just("\t"),
        Just("' panicked at "),
        Just("'"),
        Just("', "),
        Just("Caused by: "),
        Just("XError"),
        Just("a.b.CException: "),
        Just("at "),
        Just("("),
        Just(")"),
        Just(" in "),
        Just("/é"),
        Just(":1"),
        Just(":line 3"),
        Just("PHP Warning:  "),
        Just(" on line "),
        Just("ERROR:  "),
        Just("é"),
        Just("out of memory: Kill"),
        Just("[error] "),
        Just("1#1: *"),
        Just("(111: "),
        Just(" ---> "),
        Just("LOCATION:  "),
        Just("`"),
        Just("': "),
        Just("a.rb:1:in "),
        Just("C:\\"),
        Just("msg=\""),
        Just("level=error "),
        Just("\u{1F600}"),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text_is_read_without_failing_and_with_bounded_output(text in prop_oneof![pieces(), any::<String>()]) {
        if let Some(event) = recognise("shop", &text) {
            prop_assert!(!event.entity.is_empty());
            prop_assert!(event.entity.len() <= MAX_TEXT && event.message.len() <= MAX_TEXT);
            let position = event.position.unwrap_or_default();
            prop_assert!(position.file.is_none_or(|file| file.len() <= MAX_TEXT));
            prop_assert!(position.function.is_none_or(|function| function.len() <= MAX_TEXT));
        }
        let lines = text.split('\n').collect::<Vec<_>>();
        prop_assert!(events("shop", lines.iter().copied()).len() <= lines.len());
    }
}
