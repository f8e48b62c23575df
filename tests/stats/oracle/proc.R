# Numbers of pROC for tests/stats/test_delong.py:  Rscript tests/stats/oracle/proc.R > tests/stats/oracle/proc.json
# 120 images by a formula (no generator), with many ties; three scores of which the third is the first plus a little.
suppressMessages(library(pROC))
i <- 0:119
target <- as.integer((i * 37) %% 10 < 3)
one <- round(2 * target + 3 * sin(i * 1.7), 0)
two <- round(target + 3 * cos(i * 2.3), 1)
three <- one + round(sin(i * 0.9), 0)
areas <- lapply(list(one, two, three), function(score) roc(target, score, direction = "<", quiet = TRUE))
number <- function(x) format(as.numeric(x), digits = 15)
test <- function(a, b, alternative) number(roc.test(areas[[a]], areas[[b]], method = "delong", paired = TRUE, alternative = alternative)$p.value)
cat("{\n \"pROC\": \"", as.character(packageVersion("pROC")), "\", \"R\": \"", R.version$major, ".", R.version$minor, "\",\n", sep = "")
cat(" \"auc\": [", paste(sapply(areas, function(a) number(auc(a))), collapse = ", "), "],\n", sep = "")
cat(" \"variance\": [", paste(sapply(areas, function(a) number(var(a, method = "delong"))), collapse = ", "), "],\n", sep = "")
cat(" \"covariance\": [", paste(number(cov(areas[[1]], areas[[2]], method = "delong")), number(cov(areas[[1]], areas[[3]], method = "delong")),
    number(cov(areas[[2]], areas[[3]], method = "delong")), sep = ", "), "],\n", sep = "")
cat(" \"p_two_sided\": [", paste(test(1, 2, "two.sided"), test(1, 3, "two.sided"), test(2, 3, "two.sided"), sep = ", "), "],\n", sep = "")
cat(" \"p_greater\": [", paste(test(1, 2, "greater"), test(1, 3, "greater"), test(2, 3, "greater"), sep = ", "), "]\n}\n", sep = "")
