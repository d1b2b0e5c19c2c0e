use flujo::Context;

#[derive(Default, Context)]
struct State {
    #[merge(sum)]
    title: String,
}

fn main() {}
