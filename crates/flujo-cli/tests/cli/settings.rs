//! Settings: four sources in their order, each value with its origin.

use crate::context::{TestContext, assert_said};

#[test]
fn each_value_is_shown_with_its_origin() {
    let context = TestContext::new();
    context.file(
        "flujo.toml",
        "max_tokens = 5\n[allow]\ncommand = [\"git\"]\nfile_write = true\n",
    );
    let said = context
        .command("config show --origin")
        .env("FLUJO_PROGRESS", "lines")
        .output()
        .unwrap();
    let shown = String::from_utf8(said.stdout).unwrap();
    let shown = shown.replace(context.path("").to_str().unwrap(), "FOLDER/");
    insta::assert_snapshot!(shown);
}

#[test]
fn an_argument_counts_before_the_environment_before_the_file_before_the_default() {
    let context = TestContext::new();
    context.file(
        "wait.yaml",
        "steps: [{name: wait, agent: {type: command, args: [sleep, '0.01']}}]",
    );
    let allowed = |arguments: &str, variable: &str| {
        let mut command = context.command(&format!("run -q wait.yaml {arguments}"));
        command
            .env("FLUJO_ALLOW", variable)
            .output()
            .unwrap()
            .status
            .success()
    };
    assert!(!allowed("", ""));
    context.file("flujo.toml", "[allow]\ncommand = [\"sleep\"]\n");
    assert!(allowed("", ""));
    assert!(!allowed("", "command=git"));
    assert!(allowed("--allow command=sleep", "command=git"));
}

#[test]
fn the_nearest_file_counts() {
    let context = TestContext::new();
    context
        .file("flujo.toml", "max_tokens = 1\n")
        .file("inner/flujo.toml", "deadline_s = 2\n")
        .file("inner/deep/x", "");
    let said = context
        .command("config show")
        .current_dir(context.path("inner/deep"))
        .output()
        .unwrap();
    let shown = String::from_utf8(said.stdout).unwrap();
    assert!(
        shown.contains("deadline_s = 2\n") && shown.contains("max_tokens = (not set)\n"),
        "{shown}"
    );
}

#[test]
fn settings_that_cannot_be_used_are_refused_with_their_place() {
    let context = TestContext::new();
    context.file("flujo.toml", "max_token = 1\nprogress = [1]\n");
    assert_said!(context.run("config show"));
    context.file("flujo.toml", "max_tokens = -1\n");
    assert_said!(context.run("config show"));
    context.file("flujo.toml", "max_tokens = \n");
    assert_said!(context.run("config show"));
}

#[test]
fn p32_prices_that_cannot_be_used_are_refused_with_their_place() {
    let context = TestContext::new();
    context.file(
        "flujo.toml",
        "max_tokens = 9\n[cost.providers.openai.gpt-4o]\nprompt_tokens_per_1k = -0.5\n\
         [cost.providers.openai.'gpt-4.1']\nprompt_tokens_per_1k = nan\ncompletion_tokens_per_1k = '1'\n",
    );
    assert_said!(context.run("config show"));
    context.file(
        "ask.yaml",
        "steps: [{name: a, agent: {type: template, template: x}}]",
    );
    assert_eq!(context.run("validate ask.yaml").code, Some(2));
    assert_eq!(context.run("run ask.yaml").code, Some(2));
}

#[test]
fn help_names_every_option_and_variable() {
    assert_said!(TestContext::new().run("run --help"));
}
