use std::{collections::BTreeMap, fs, path::Path, process::Command};

use super::*;

const MODE: &str = "REPORT_MODE";
const SCRATCH: &str = "REPORT_SCRATCH";

/// Not a test: a process with an environment of the test's making, which starts a child that notes
/// its own.
#[tokio::test]
async fn start_a_child_that_reports() {
    let Some(scratch) = std::env::var_os(SCRATCH) else {
        return;
    };
    let note = r#"env > "$1.new"; echo end >> "$1.new"; mv "$1.new" "$1"; cat > /dev/null"#;
    let child = server(note)
        .arg("sh")
        .arg(Path::new(&scratch).join("environment"));
    let child = match std::env::var(MODE).unwrap().as_str() {
        "default" => child,
        "named" => child
            .inherit_env(["NAMED"])
            .inherit_env(["NODE_PATH", "NOT_SET"]),
        "all" => child.inherit_all_env(),
        "withheld" => child
            .inherit_all_env()
            .inherit_env(["GATEWAY_SECRET"])
            .withhold_env(["GATEWAY_SECRET"])
            .withhold_env(["NAMED"]),
        "set" => child
            .withhold_env(["GATEWAY_SECRET"])
            .env("GATEWAY_SECRET", "the child's own")
            .env("HOME", "/elsewhere"),
        other => panic!("{other}"),
    };
    let upstream = upstream(child);
    upstream.connect().await.unwrap();
    while fs::metadata(Path::new(&scratch).join("environment")).is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    upstream.close().await;
}

/// The environment of a child whose parent has these variables beside `PATH`.
fn environment(mode: &str) -> BTreeMap<String, String> {
    let scratch = Scratch::new();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "environment::start_a_child_that_reports"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", "/home/of/the/gateway")
        .env("LOGNAME", "() { :; }")
        .env("TERM", "dumb")
        .env("GATEWAY_SECRET", "hunter2")
        .env("AWS_SECRET_ACCESS_KEY", "hunter2")
        .env("LD_LIBRARY_PATH", "/nowhere")
        .env("NODE_PATH", "/modules")
        .env("NAMED", "by the operator")
        .env(MODE, mode)
        .env(SCRATCH, &scratch.0)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = fs::read_to_string(scratch.join("environment")).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines
        // The shell's own.
        .filter(|(name, _)| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn names(environment: &BTreeMap<String, String>) -> Vec<&str> {
    environment.keys().map(String::as_str).collect()
}

#[test]
fn a_child_inherits_only_what_the_official_sdks_let_it_inherit() {
    let environment = environment("default");
    assert_eq!(names(&environment), ["HOME", "PATH", "TERM"]);
    assert_eq!(environment["HOME"], "/home/of/the/gateway");
}

#[test]
fn a_child_inherits_the_variables_it_is_to_inherit_too() {
    let environment = environment("named");
    let expected = ["HOME", "NAMED", "NODE_PATH", "PATH", "TERM"];
    assert_eq!(names(&environment), expected);
    assert_eq!(environment["NAMED"], "by the operator");
}

#[test]
fn a_child_inherits_everything_only_where_that_is_said() {
    let environment = environment("all");
    for name in ["GATEWAY_SECRET", "LD_LIBRARY_PATH", "NAMED", "LOGNAME"] {
        assert!(environment.contains_key(name), "{name}: {environment:?}");
    }
}

#[test]
fn a_variable_that_is_withheld_is_never_inherited() {
    let environment = environment("withheld");
    assert!(environment.contains_key("AWS_SECRET_ACCESS_KEY"));
    assert!(!environment.contains_key("GATEWAY_SECRET"));
    assert!(!environment.contains_key("NAMED"));
}

#[test]
fn a_variable_that_is_set_for_the_child_has_that_value() {
    let environment = environment("set");
    assert_eq!(environment["GATEWAY_SECRET"], "the child's own");
    assert_eq!(environment["HOME"], "/elsewhere");
}

#[test]
fn debug_output_names_variables_without_their_values() {
    let child = ChildProcess::new("server")
        .env("TOKEN", "hunter2")
        .inherit_env(["NODE_PATH"]);
    let shown = format!("{child:?}");
    assert!(shown.contains("TOKEN") && shown.contains("NODE_PATH"));
    assert!(!shown.contains("hunter2"), "{shown}");
}
