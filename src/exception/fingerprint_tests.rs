//! The same fault has the same name after a rebuild, and another fault has another one, in the forms of the
//! stacks of eight runtimes.

use proptest::prelude::*;

use super::*;

fn exception(kind: &str, stack: &str) -> Exception {
    Exception::new(kind.as_bytes(), stack.as_bytes(), b"")
}

/// Both stacks are of one fault.
fn same(kind: &str, a: &str, b: &str) {
    let (a, b) = (exception(kind, a), exception(kind, b));
    assert!(!a.frames.is_empty(), "no frames: {a:?}");
    assert_eq!(a, b);
}

/// The stacks are of two faults.
fn differ(kind: &str, a: &str, b: &str) {
    let (a, b) = (exception(kind, a), exception(kind, b));
    assert!(!a.frames.is_empty() && !b.frames.is_empty(), "no frames: {a:?} {b:?}");
    assert_ne!(a.fingerprint, b.fingerprint, "{a:?}");
}

fn frames(stack: &str) -> Vec<String> {
    exception("E", stack).frames.iter().map(ToString::to_string).collect()
}

const JAVA: &str = "java.lang.NullPointerException: Cannot invoke \"Item.price()\"
\tat com.shop.Cart.add(Cart.java:42)
\tat com.shop.Cart.lambda$addAll$3(Cart.java:57)
\tat com.shop.Cart$$Lambda$214/0x0000000800c03440.accept(Unknown Source)
\tat java.base/java.util.ArrayList.forEach(ArrayList.java:1511)
\tat java.base/jdk.internal.reflect.NativeMethodAccessorImpl.invoke0(Native Method)
\tat java.base/jdk.internal.reflect.NativeMethodAccessorImpl.invoke(NativeMethodAccessorImpl.java:77)
\tat java.base/java.lang.reflect.Method.invoke(Method.java:568)
\tat com.shop.CartController$$EnhancerBySpringCGLIB$$7f1c2e9a.post(<generated>) ~[shop-1.2.3.jar:1.2.3]
\tat app//org.spring.Dispatcher.service(Dispatcher.java:9)
Caused by: java.io.IOException: closed
\tat com.shop.Db.read(Db.java:7)";

#[test]
fn java() {
    let rebuilt = "java.lang.NullPointerException: Cannot invoke \"Item.weight()\"
\tat com.shop.Cart.add(Cart.java:48)
\tat com.shop.Cart.lambda$addAll$5(Cart.java:66)
\tat com.shop.Cart$$Lambda/0x00007f2c1c0a.accept(Unknown Source)
\tat java.base@21.0.1/java.util.ArrayList.forEach(ArrayList.java:1596)
\tat jdk.internal.reflect.GeneratedMethodAccessor77.invoke(Unknown Source)
\tat java.lang.reflect.Method.invoke(Method.java:580)
\tat com.shop.CartController$$EnhancerBySpringCGLIB$$11aa22bb.post(<generated>) ~[shop-1.2.4.jar:1.2.4]
\tat com.shop.Other.entry(Other.java:1)";
    same("java.lang.NullPointerException", JAVA, rebuilt);
    assert_eq!(
        frames(JAVA),
        [
            "com.shop.Cart.add",
            "com.shop.Cart.lambda$addAll",
            "com.shop.Cart$Lambda.accept",
            "java.util.ArrayList.forEach",
            "com.shop.CartController$EnhancerBySpringCGLIB.post"
        ]
    );
    differ("E", JAVA, &JAVA.replace("Cart.add(", "Cart.remove("));
    assert_ne!(exception("a.E", JAVA).fingerprint, exception("a.F", JAVA).fingerprint);
    let rows = [
        ("com.sun.proxy.$Proxy123.pay", "com.sun.proxy.Proxy.pay"),
        ("com.shop.Cart$1.run", "com.shop.Cart.run"),
        ("com.shop.Cart$Item.price", "com.shop.Cart$Item.price"),
        ("com.shop.CartKt$add$1$2.invokeSuspend", "com.shop.CartKt$add.invokeSuspend"),
        ("com.shop.Cart.access$000", "com.shop.Cart.access"),
        ("com.shop.Order$HibernateProxy$Xy12AbCd.getId", "com.shop.Order$HibernateProxy.getId"),
        ("com.shop.Order_$$_jvst3f2_1.getId", "com.shop.Order_$_javassist.getId"),
        ("com.shop.Cart.<init>", "com.shop.Cart.<init>"),
        ("com.shop.Script$_run_closure12.doCall", "com.shop.Script$_run_closure.doCall"),
    ];
    for (written, expected) in rows {
        assert_eq!(frames(&format!("\tat {written}(Some.java:1)")), [expected]);
    }
}

#[test]
fn dotnet() {
    let a = "System.InvalidOperationException: Sequence contains no elements
   at System.Linq.ThrowHelper.ThrowNoElementsException()
   at Shop.Cart.<>c__DisplayClass5_0.<Add>b__0(Item item) in /src/Cart.cs:line 42
   at Shop.Cart.<AddAsync>d__3.MoveNext() in /src/Cart.cs:line 50
--- End of stack trace from previous location ---
   at System.Runtime.CompilerServices.TaskAwaiter.ThrowForNonSuccess(Task task)
   at Shop.Cart.<Add>g__Check|7_1(Item item)
   at lambda_method12(Closure, Object)";
    let b = "System.InvalidOperationException: other
   at System.Linq.ThrowHelper.ThrowNoElementsException()
   at Shop.Cart.<>c__DisplayClass6_0.<Add>b__2(Item item) in C:\\b\\Cart.cs:line 47
   at Shop.Cart.<AddAsync>d__4.MoveNext() in C:\\b\\Cart.cs:line 55
--- End of stack trace from previous location ---
   at System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw()
   at System.Runtime.CompilerServices.TaskAwaiter.ThrowForNonSuccess(Task task)
   at Shop.Cart.<Add>g__Check|8_0(Item item)
   at lambda_method99(Closure, Object)";
    same("System.InvalidOperationException", a, b);
    assert_eq!(
        frames(a)[1..4],
        ["Shop.Cart.<>c.<Add>b", "Shop.Cart.<AddAsync>d.MoveNext", "Shop.Cart.<Add>g__Check"]
    );
    differ("E", a, &a.replace("<Add>b__0", "<Remove>b__0"));
    assert_eq!(frames("  at Shop.Cart.Add (Shop.Item i) [0x0001a] in <4f>:0 "), ["Shop.Cart.Add"]);
}

#[test]
fn javascript() {
    let a = "TypeError: Cannot read properties of undefined (reading 'price')
    at Cart.add (/srv/release-41/src/cart.js:10:15)
    at async Promise.all (index 0)
    at Object.<anonymous> (/srv/release-41/dist/main.3f2a9c1b.js:1:2345)
    at async t.checkout (https://cdn.example/assets/index-BkWt3_X9.js?v=17:2:10)
    at process.processTicksAndRejections (node:internal/process/task_queues:95:5)
    at Layer.handle [as handle_request] (/app/node_modules/.pnpm/express@4.18.2/node_modules/express/lib/router/layer.js:95:5)";
    let b = "TypeError: Cannot read properties of undefined (reading 'price')
    at Cart.add (/srv/release-42/src/cart.js:12:11)
    at async Promise.all (index 3)
    at /srv/release-42/dist/main.aa01bb02.js:1:99
    at async n.checkout (https://cdn.example/assets/index-Q7_dKpa1.js?v=18:2:33)
    at Layer.handle [as handle_request] (/app/node_modules/.pnpm/express@4.19.0/node_modules/express/lib/router/layer.js:97:5)";
    same("TypeError", a, b);
    assert_eq!(
        frames(a),
        [
            "Cart.add (src/cart.js)",
            "Promise.all",
            "(anonymous) (dist/main.js)",
            "checkout (assets/index.js)",
            "Layer.handle (express/lib/router/layer.js)"
        ]
    );
    differ("E", a, &a.replace("Cart.add", "Cart.remove"));
    differ("E", a, &a.replace("cart.js", "basket.js"));
    let firefox = "add@https://shop.example/js/cart.3f2a9c.js:1:10\ntotal/<@https://shop.example/js/cart.3f2a9c.js:2:20\n@https://shop.example/js/app.js:3:1";
    let rebuilt = "add@https://shop.example/js/cart.99aa00.js:4:11\ntotal/<@https://shop.example/js/cart.99aa00.js:5:2\n@https://shop.example/js/app.js:9:9";
    same("TypeError", firefox, rebuilt);
    assert_eq!(frames(firefox), ["add (js/cart.js)", "total (js/cart.js)", "(anonymous) (js/app.js)"]);
}

#[test]
fn python() {
    let a = "Traceback (most recent call last):
  File \"/srv/r41/shop/views.py\", line 12, in post
    cart.add(item)
  File \"/usr/lib/python3.11/site-packages/attr/_make.py\", line 3, in wrapped
    return f()
  File \"/srv/r41/shop/cart.py\", line 42, in add
    total += prices[item]
KeyError: 'apple'";
    let b = a
        .replace("r41", "r42")
        .replace("line 42", "line 57")
        .replace("3.11", "3.12")
        .replace("apple", "pear");
    same("KeyError", a, &b);
    assert_eq!(frames(a), ["shop/cart.py:add", "attr/_make.py:wrapped", "shop/views.py:post"]);
    differ("E", a, &a.replace("in add", "in remove"));
    let group = "  + Exception Group Traceback (most recent call last):\n  |   File \"/a/shop/job.py\", line 3, in run\n  |     x";
    assert_eq!(frames(group), ["shop/job.py:run"]);
}

#[test]
fn go() {
    let a = "goroutine 34 [running]:
runtime/debug.Stack()
\t/usr/local/go/src/runtime/debug/stack.go:24 +0x5e
go.opentelemetry.io/otel/sdk/trace.recordStackTrace()
\t/go/pkg/mod/go.opentelemetry.io/otel/sdk@v1.20.0/trace/span.go:500 +0x25
panic({0x6f1a20?, 0xc00012c0a8?})
\t/usr/local/go/src/runtime/panic.go:914 +0x21f
main.(*Cart).Add(0xc000010200, {0xc00001a0f0, 0x5})
\t/app/cart.go:42 +0x1d
github.com/shop/prices/v2.Lookup[...](0x1)
\t/go/pkg/mod/github.com/shop/prices/v2@v2.1.0/lookup.go:7 +0x2
main.main.func1.2()
\t/app/main.go:10 +0x1d
created by main.main in goroutine 1
\t/app/main.go:9 +0x3";
    let b = a
        .replace("goroutine 34", "goroutine 7")
        .replace("0xc000010200", "0xc0000ff000")
        .replace("cart.go:42", "cart.go:44")
        .replace("prices/v2", "prices/v3")
        .replace("func1.2", "func2.1");
    same("*errors.errorString", a, &b);
    assert_eq!(frames(a), ["main.(*Cart).Add", "github.com/shop/prices.Lookup", "main.main.func"]);
    differ("E", a, &a.replace("Cart).Add", "Cart).Remove"));
    assert_eq!(exception("*errors.errorString", a).short(), "errorString in (*Cart).Add");
}

#[test]
fn rust() {
    let a = "   0: rust_begin_unwind
             at /rustc/07dca489ac2d933c78d3c5158e3f43beefeb02ce/library/std/src/panicking.rs:645:5
   1: core::panicking::panic_fmt
             at /rustc/07dca489ac2d933c78d3c5158e3f43beefeb02ce/library/core/src/panicking.rs:72:14
   2: core::option::unwrap_failed
   3: shop::cart::add::{{closure}}
             at ./src/cart.rs:42:9
   4: <shop::Cart as shop::Basket>::total::h0123456789abcdef
   5: shop[1f2e3d4c]::main";
    let b = a
        .replace("07dca489ac2d933c78d3c5158e3f43beefeb02ce", "9fc6b43126469e3858e2fe86cafb4f0fd5068869")
        .replace("{{closure}}", "{closure#2}")
        .replace("h0123456789abcdef", "hfedcba9876543210")
        .replace("1f2e3d4c", "aabbccdd");
    same("panic", a, &b);
    assert_eq!(
        frames(a),
        ["shop::cart::add::{closure}", "<shop::Cart as shop::Basket>::total", "shop::main"]
    );
    differ("E", a, &a.replace("cart::add", "cart::remove"));
}

#[test]
fn ruby_and_php() {
    let a = "/srv/r41/app/models/cart.rb:42:in `block (2 levels) in add'
\tfrom /usr/lib/ruby/gems/3.2.0/gems/rack-2.2.7/lib/rack/handler.rb:10:in `call'
\tfrom bin/rails:4:in `<main>'";
    let b = "/srv/r42/app/models/cart.rb:47:in 'block in add'
\tfrom /usr/lib/ruby/gems/3.3.0/gems/rack-3.0.1/lib/rack/handler.rb:12:in 'call'
\tfrom bin/rails:4:in '<main>'";
    same("NoMethodError", a, b);
    assert_eq!(frames(a), ["models/cart.rb:add", "rack/lib/rack/handler.rb:call", "bin/rails:<main>"]);
    differ("E", a, &a.replace("in add", "in remove"));
    let a = "#0 /srv/r41/src/Cart.php(42): Shop\\Prices->get(Object(Shop\\Item))
#1 [internal function]: Shop\\Cart->Shop\\{closure}(Array)
#2 /srv/r41/src/x.php(3): class@anonymous/srv/r41/src/x.php:12$0->run()
#3 {main}";
    let b = "#0 /srv/r42/src/Cart.php(48): Shop\\Prices->get(Object(Shop\\Item))
#1 [internal function]: Shop\\Cart->Shop\\{closure:Shop\\Cart::add():50}(Array)
#2 /srv/r42/src/x.php(3): class@anonymous/srv/r42/src/x.php:19$1->run()
#3 {main}";
    same("TypeError", a, b);
    assert_eq!(frames(a), ["Shop\\Prices->get", "Shop\\Cart->Shop\\{closure}", "class@anonymous->run"]);
    differ("E", a, &a.replace("Prices->get", "Prices->set"));
}

#[test]
fn what_is_not_a_frame_is_not_taken() {
    for stack in [
        "",
        "no stack at all",
        "KeyError: 'secret'",
        "user@example.com:8080 refused",
        "at",
        "at \nat (",
        "# 1 heading",
        "12: 30: noon",
        "password=hunter2\npassword=hunter2",
        "at password=hunter2 (x)",
    ] {
        assert_eq!(frames(stack), Vec::<String>::new(), "{stack}");
    }
    // A message of several lines that looks like a stack.
    let message = "order failed\n\tat alice.example.com(card 4111)";
    let stack = format!("E: {message}\n\tat com.shop.Cart.add(Cart.java:1)");
    let seen = Exception::new(b"E", stack.as_bytes(), message.as_bytes());
    assert_eq!(seen.frames.iter().map(|f| &**f).collect::<Vec<_>>(), ["com.shop.Cart.add"]);
}

#[test]
fn types_are_names() {
    for (written, expected) in [
        ("java.lang.NullPointerException", "java.lang.NullPointerException"),
        (" ValueError ", "ValueError"),
        ("ValueError: bad card 4111", "ValueError"),
        ("Error('secret')", "Error"),
        ("com.shop.Cart$1", "com.shop.Cart"),
        ("com.shop.Cart$Full", "com.shop.Cart$Full"),
        ("*fmt.wrapError", "*fmt.wrapError"),
        ("", "(untyped)"),
        (": x", "(untyped)"),
    ] {
        assert_eq!(&*exception(written, "").kind, expected, "{written}");
    }
    let long = "x".repeat(1000);
    assert_eq!(exception(&long, "").kind.len(), NAME_CHARS);
}

#[test]
fn names_for_people_are_short() {
    for (kind, frame, expected) in [
        (
            "java.lang.NullPointerException",
            "\tat com.shop.Cart.add(Cart.java:1)",
            "NullPointerException in Cart.add",
        ),
        ("Shop\\Full", "#0 /a/b.php(1): Shop\\Cart->add()", "Full in Shop\\Cart->add"),
        ("KeyError", "  File \"/a/shop/cart.py\", line 1, in add", "KeyError in cart.py:add"),
        ("TypeError", "    at Cart.add (/a/src/cart.js:1:1)", "TypeError in Cart.add (src/cart.js)"),
        ("panic", "0: shop::cart::add", "panic in cart::add"),
        ("E", "", "E"),
    ] {
        assert_eq!(exception(kind, frame).short(), expected);
    }
}

proptest! {
    /// Whatever is sent: no panic, and names within their bounds.
    #[test]
    fn any_text_is_read(stack in "(\\PC|[\n\t@:().#$/<>{}]|at |File \"|, line |, in ){0,200}", kind in "\\PC{0,40}") {
        let seen = exception(&kind, &stack);
        prop_assert!(seen.frames.len() <= TOP_FRAMES);
        prop_assert!(seen.frames.iter().chain([&seen.kind]).all(|name| name.chars().count() <= NAME_CHARS));
        prop_assert_eq!(&Exception::named(&seen.kind, seen.frames.clone()), &seen);
        prop_assert!(!seen.short().is_empty());
    }

    /// Lines, closures, hashes and generated classes may change as they like.
    #[test]
    fn a_rebuild_changes_no_name(
        lines in prop::collection::vec(1..9999u32, 4), closure in 0..99u32, hash in "[0-9a-f]{8}", accessor in 1..500u32,
    ) {
        let hash = format!("{hash}0");
        let java = format!(
            "E: x\n\tat a.B.c(B.java:{})\n\tat a.B.lambda$c${closure}(B.java:{})\n\tat a.B$$FastClassBySpringCGLIB$${hash}.invoke(<generated>)\n\tat sun.reflect.GeneratedMethodAccessor{accessor}.invoke(Unknown Source)\n\tat a.D.e(D.java:{})",
            lines[0], lines[1], lines[2],
        );
        let expected = ["a.B.c", "a.B.lambda$c", "a.B$FastClassBySpringCGLIB.invoke", "a.D.e"];
        prop_assert_eq!(frames(&java), expected);
        let js = format!("E\n    at add (/x/main.{hash}.js:{}:{})\n    at run (/x/{closure}.{hash}.js:1:1)", lines[0], lines[3]);
        prop_assert_eq!(frames(&js), ["add (x/main.js)", "run (x/*.js)"]);
    }
}
