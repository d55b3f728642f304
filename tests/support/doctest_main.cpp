// The main() of every test program.
//   PROGRAM          as doctest does it by itself; PROGRAM --help lists its options
//   PROGRAM --tap    for `meson test`: a TAP line for each test case on standard output, the rest on standard error
// rapidcheck prints the seed of its random cases by itself; RC_PARAMS="seed=..." repeats them.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <iostream>
#include <string_view>

namespace {

class tap_reporter final : public doctest::IReporter {
 public:
  explicit tap_reporter(const doctest::ContextOptions&) {}

  void test_case_start(const doctest::TestCaseData& test) override { name_ = test.m_name; }
  void test_case_end(const doctest::CurrentTestCaseStats& result) override {
    std::cout << (result.testCaseSuccess ? "ok " : "not ok ") << ++count_ << " - " << name_ << std::endl;
  }
  void test_case_skipped(const doctest::TestCaseData& test) override {  // also called for what a filter leaves out
    if (test.m_skip) std::cout << "ok " << ++count_ << " - " << test.m_name << " # SKIP" << std::endl;
  }
  void test_run_end(const doctest::TestRunStats&) override { std::cout << "1.." << count_ << std::endl; }

  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}

 private:
  const char* name_ = "";
  int count_ = 0;
};

DOCTEST_REGISTER_REPORTER("tap", 0, tap_reporter);

}  // namespace

int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  if (argc > 1 && std::string_view(argv[1]) == "--tap") {
    context.setCout(&std::cerr);
    context.addFilter("reporters", "console,tap");
  }
  return context.run();
}
