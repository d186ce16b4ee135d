@description('Resource id of the Log Analytics workspace that holds WorkspaceMonitoring')
param workspaceResourceId string
param location string = resourceGroup().location

@secure()
param agMlopsDriftRetrainUri string

resource agMlopsDriftGroup 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-mlops-drift'
  location: 'Global'
  properties: {
    groupShortName: 'agmlopsdrift'
    enabled: true
    webhookReceivers: [
      {
        name: 'retrain'
        serviceUri: agMlopsDriftRetrainUri
        useCommonAlertSchema: true
      }
    ]
  }
}

resource driftRule 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: 'drift'
  location: location
  properties: {
    severity: 2
    enabled: true
    autoMitigate: true
    evaluationFrequency: 'PT5M'
    windowSize: 'PT60M'
    scopes: [
      workspaceResourceId
    ]
    criteria: {
      allOf: [
        {
          query: 'WorkspaceMonitoring\n| where TableName == "ml_drift_metrics"\n| where ModelName == "casino-slot-revenue-forecast-challenger"\n| where MetricName in ("psi_overall", "performance_rmse_delta_pct")\n| where Window == "7d"\n| where isfinite(MetricValue)\n| summarize Value = max(MetricValue) by ModelName, bin(TimeGenerated, 60m)\n| where Value > 0.2'
          timeAggregation: 'Maximum'
          metricMeasureColumn: 'Value'
          operator: 'GreaterThan'
          threshold: json('0.2')
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
          dimensions: [
            {
              name: 'ModelName'
              operator: 'Include'
              values: [
                '*'
              ]
            }
          ]
        }
      ]
    }
    actions: {
      actionGroups: [
        agMlopsDriftGroup.id
      ]
    }
  }
}
