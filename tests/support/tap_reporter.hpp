// A TAP line for each test case on standard output: what `meson test` counts. doctest.h is included before, with its
// implementation.
#ifndef NORMUON_TESTS_SUPPORT_TAP_REPORTER_HPP
#define NORMUON_TESTS_SUPPORT_TAP_REPORTER_HPP

#include <doctest/doctest.h>

#include <iostream>
#include <string_view>

namespace normuon::test {

class tap_reporter : public doctest::IReporter {
 public:
  explicit tap_reporter(const doctest::ContextOptions&) {}

  void test_case_start(const doctest::TestCaseData& test) override { name_ = test.m_name; }
  void test_case_end(const doctest::CurrentTestCaseStats& result) override { write(result.testCaseSuccess, ""); }
  void test_case_skipped(const doctest::TestCaseData& test) override {  // also called for what a filter leaves out
    name_ = test.m_name;
    if (test.m_skip) write(true, " # SKIP");
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

 protected:
  void write(bool ok, const char* directive) {
    std::cout << (ok ? "ok " : "not ok ") << ++count_ << " - " << name_ << directive << std::endl;
  }

 private:
  const char* name_ = "";
  int count_ = 0;
};

// PROGRAM --tap: TAP on standard output, everything else on standard error. Other options are doctest's.
inline void choose_reporters(doctest::Context& context, int argc, char** argv) {
  if (argc < 2 || std::string_view(argv[1]) != "--tap") return;
  context.setCout(&std::cerr);
  context.addFilter("reporters", "console,tap");
}

}  // namespace normuon::test

#endif
