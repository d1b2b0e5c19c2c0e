use flujo::human;

fn main() {
    let ask = human("ask", |text: &String| text.clone());
    let _ = ask.validate(|answer: &bool| if *answer { Ok(()) } else { Err("no".into()) });
    let ask = human("ask", |text: &String| text.clone()).answered_by::<bool>();
    let _ = ask.default_answer(true).answered_by::<u32>();
}
