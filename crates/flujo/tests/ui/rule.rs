use flujo::Context;

#[derive(Default, Context)]
struct State {
    #[merge(total)]
    seen: u32,
}

fn main() {}
